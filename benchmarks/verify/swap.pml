/* The life of a swap, as app/registry/swap.py, app/registry/coordinator.py and app/serving/replica.py live it.
   `python -m benchmarks.verify` searches it, and its broken variants.

   One model, three versions: 1 is active, 2 passed against 1 and stands by, 3 passed against 2. Replica 0 is up; the others
   join. A transaction that holds the row's lock over several steps is several steps here, with `sharing` (FOR SHARE) and
   `locked` (FOR UPDATE); in between its process may sleep or die, and Postgres then ends the transaction. Leases are as in
   job.pml: a replica's own ends before Postgres's does. */

#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef CALLS
#define CALLS 2       /* of each operator */
#endif
#ifndef OPERATORS
#define OPERATORS 2
#endif
#define VERSIONS 3
#define NOBODY 255
#define BIT(v) (1 << (v))

/* the row of model_slots */
byte active_slot = 1, standby_slot = 2, previous, generation = 1, revision = 2;
bool held, watched;
bool rolled;                          /* the last change of active was a rollback: swap._rolled_back_to */
byte was_active = BIT(1);             /* slot_history */
byte changes = 2;                     /* rows of slot_history */
byte version_of[6];                   /* generation → the version that it answers with (slot_history) */
byte locked = NOBODY;                 /* FOR UPDATE: the operator */
bool sharing[REPLICAS];               /* FOR SHARE */

/* rows of replica_slots */
bool listed[REPLICAS];                /* lease_until > clock_timestamp() */
byte served[REPLICAS], warm[REPLICAS];

/* a replica's memory */
byte serving[REPLICAS];               /* Slots.generation; 0: no Slots yet */
byte loaded[REPLICAS];                /* Shelf.loaded, as bits */
bool unloaded[REPLICAS];              /* Replica.unloaded: not ready */
bool leased[REPLICAS];                /* Replica.has_lease */
bool granted[REPLICAS];               /* a renewal is committed whose deadline, counted from before it, is still to come */

byte told[REPLICAS];                  /* the newest generation that a 200 said to be true of this replica */

#define READY(r) (leased[r] && !unloaded[r] && serving[r] > 0)
#define INCUMBENT(v) (v == 2 -> 1 : (v == 3 -> 2 : 0))
#define SHARED (sharing[0] || sharing[REPLICAS - 1] || sharing[REPLICAS / 2])
mtype = { go, wait, refuse, done };                                  /* what a transaction found */

#define FREE (locked == NOBODY && !SHARED)

byte k;

/* swap._write: the row, its history and its event in one transaction */
inline write(new_active, new_standby, new_previous) {
    if
    :: new_active != active_slot ->
        generation++; version_of[generation] = new_active; was_active = was_active | BIT(new_active)
    :: else -> skip
    fi;
    active_slot = new_active; standby_slot = new_standby; previous = new_previous;
    revision++;
#ifndef M_HISTORY_APART
    changes++
#endif
}

/* The live replicas of which the row does not say that they hold `target` warm, as bits: swap._not_warm */
inline not_warm(target, cold, all_cold) {
    k = 0; cold = 0; all_cold = true;
    do
    :: k < REPLICAS && listed[k] && warm[k] != target -> cold = cold | BIT(k); k++
    :: k < REPLICAS && listed[k] && warm[k] == target -> all_cold = false; k++
    :: k < REPLICAS && !listed[k] -> k++
    :: k == REPLICAS -> break
    od;
    k = 0
}

/* What a swap promises of the replicas that it counted in: the version that they are about to flip to is loaded. */
inline counted_in_are_warm(target, cold) {
    k = 0;
    do
    :: k < REPLICAS -> assert(!listed[k] || (cold & BIT(k)) || (loaded[k] & BIT(target))); k++
    :: k == REPLICAS -> break
    od;
    k = 0
}

/* A beat is one transaction under FOR SHARE: while it lasts the row is what it read, so nothing read is kept here. The flip
   stands before the COMMIT, as in the code: memory has flipped although the COMMIT may fail, or nobody hears of it. (A flip
   that comes late, after Postgres has ended the transaction, only finds the replica older than it could be.) */
#ifdef M_READ_UNLOCKED
#define READ_GENERATION generation_read
#define READ_STANDBY standby_read
#else
#define READ_GENERATION generation
#define READ_STANDBY standby_slot
#endif
#define FLIPPED(r) (serving[r] == READ_GENERATION)

inline flip(r) {                                                    /* Replica._flip: converge */
    if
    :: READ_GENERATION >= serving[r] && (loaded[r] & BIT(version_of[READ_GENERATION])) -> serving[r] = READ_GENERATION
    :: else -> skip
    fi
}

inline report(r) {                                                  /* Replica._report: receipt and renewal */
    if
#ifdef M_RECEIPT_THOUGH_STALE
    :: serving[r] > 0 ->
#else
    :: FLIPPED(r) ->
#endif
        listed[r] = true; granted[r] = true; served[r] = READ_GENERATION;
        warm[r] = ((loaded[r] & BIT(READ_STANDBY)) -> READ_STANDBY : 0)
    :: else -> skip
    fi
}

inline hear(r) {                                                    /* what beat does once it knows of the COMMIT */
    if
#ifdef M_LEASE_FROM_ANSWER
    :: FLIPPED(r) -> leased[r] = true
#else
    :: FLIPPED(r) && granted[r] -> leased[r] = true
#endif
    :: else -> skip
    fi;
    unloaded[r] = (serving[r] != READ_GENERATION);
    loaded[r] = loaded[r] & (BIT(version_of[READ_GENERATION]) | (READ_STANDBY -> BIT(READ_STANDBY) : 0))   /* _fetch */
}

proctype Replica(byte r) {
#ifdef M_READ_UNLOCKED
    byte generation_read, standby_read;
#endif
end:do
#ifdef M_READ_UNLOCKED
    :: d_step { true -> generation_read = generation; standby_read = standby_slot; flip(r) };
#else
    :: d_step { locked == NOBODY -> sharing[r] = true; flip(r) };   /* BEGIN, replica._read_slots, Replica._flip */
#endif
       if
#ifdef M_LEASE_FROM_ANSWER
       :: d_step { true -> report(r); sharing[r] = false }; d_step { true -> hear(r) }
#else
       :: d_step { true -> report(r); sharing[r] = false; hear(r) }   /* COMMIT */
#endif
       :: d_step { true -> report(r); sharing[r] = false }          /* COMMIT, and its answer never comes */
       :: d_step { true -> sharing[r] = false }                     /* COMMIT fails, or Postgres ended the transaction */
       fi
    :: d_step { !(loaded[r] & BIT(active_slot)) -> loaded[r] = loaded[r] | BIT(active_slot) }      /* _load */
    :: d_step { standby_slot && !(loaded[r] & BIT(standby_slot)) -> loaded[r] = loaded[r] | BIT(standby_slot) }
    od
}

/* POST /predict/batch: serving/router.py, on a replica that /health/ready calls ready. It computes with the one Slots that
   it read, which nobody changes, so computing needs no state: only the variant that reads twice is caught at the second. */
inline request(which) {
#ifdef M_READ_TWICE
    d_step { READY(which) -> answers = serving[which] };
    d_step { assert(version_of[answers] == version_of[serving[which]]); answers = 0 }
#else
    d_step { READY(which) -> assert(serving[which] >= told[which]) }
#endif
}

proctype Request() {
#ifdef M_READ_TWICE
    byte answers;
#endif
end:do
    :: request(0)
    :: request(1)
#if REPLICAS > 2
    :: request(2)
#endif
    od
}

/* What an operator calls, and calls again where no answer came. The coordinator is his: if it dies he hears nothing. */
proctype Operator(byte me) {
    byte calls, target, expected, mine, cold, missing; bool force, applied, again, all_cold;
    mtype next = go;
end:do
    :: calls < CALLS -> calls++; goto stage
    :: calls < CALLS -> d_step { calls++; expected = revision }; goto reload
    :: calls < CALLS -> d_step { calls++; expected = revision; force = true }; goto reload
    :: calls < CALLS -> calls++; goto restore
    :: calls == CALLS -> break
    od;
    goto end_called;

stage:  /* swap.stage, one transaction; by automation or by hand */
    if :: target = 2 :: target = 3 fi;
    skip;
    d_step {
        FREE ->
        if
        :: standby_slot == target || active_slot == target || INCUMBENT(target) != active_slot -> skip
#ifndef M_STAGE_OVER_WATCH
        :: else -> if :: standby_slot && standby_slot == previous && watched -> skip
                      :: else -> write(active_slot, target, previous) fi
#else
        :: else -> assert(!(standby_slot && standby_slot == previous && watched)); write(active_slot, target, previous)
#endif
        fi
    };
    goto answered;

reload: /* Coordinator._when_ready with swap.reload: one transaction, and again while replicas are not ready */
    skip;
#ifdef M_CHECK_OUTSIDE_LOCK
    d_step { not_warm(standby_slot, cold, all_cold) };
#endif
    d_step {
#ifdef M_NO_COMPARE
        true ->
#else
        FREE -> locked = me;
#endif
        assert(changes == revision);
        target = standby_slot;
#ifndef M_CHECK_OUTSIDE_LOCK
        not_warm(target, cold, all_cold);
#endif
        if
#ifndef M_IGNORE_REVISION
        :: revision != expected -> next = refuse                    /* Stale: swap._lock */
#endif
        :: target == 0 || target == previous -> next = refuse
#ifndef M_HOLD_FORGOTTEN
        :: held && !force -> next = refuse
#endif
#ifndef M_STALE_GATE
        :: target && INCUMBENT(target) != active_slot -> next = refuse
#endif
        :: else -> next = (cold && !force -> wait : go)
        fi;
        if :: next != go && locked == me -> locked = NOBODY :: else -> skip fi
    };
    if
    :: next == refuse -> goto answered
    :: next == wait -> goto reload
    :: next == wait -> goto answered                                /* time is up: ReplicasNotReady */
    :: next == go -> skip
    fi;
    if
    :: d_step {
#ifdef M_NO_COMPARE
           true ->
           assert(standby_slot == target && !(active_slot == target));
#else
           locked == me -> locked = NOBODY;
#endif
           assert(!applied && (force || !held) && INCUMBENT(target) == active_slot);
           applied = true; counted_in_are_warm(target, cold);
           write(target, active_slot, active_slot);
           watched = true; rolled = false; mine = generation }
    :: locked != me -> goto lost_call                               /* Postgres ended the transaction: nothing changed */
    fi;
    goto settle;

restore: /* Coordinator.rollback: swap.restore, one transaction */
    skip;
    d_step {
        FREE ->
        assert(changes == revision);
        target = (previous -> previous : (rolled -> active_slot : 0));
        assert(target == 0 || (was_active & BIT(target)));
        if
        :: target == 0 || target == active_slot || target == standby_slot -> skip
        :: else -> write(active_slot, target, previous)
        fi;
        mine = generation; cold = 0
    };
    if
    :: target == 0 -> goto answered                                 /* nothing_to_roll_back_to */
    :: target == active_slot && mine == generation -> goto settle        /* done before */
    :: else -> skip
    fi;
roll:   /* swap.rollback: patient first, then leaving out who is not warm, as long as one is */
    skip;
    d_step {
#ifdef M_ROLLBACK_UNLOCKED
        true ->
#else
        FREE -> locked = me;
#endif
        not_warm(target, cold, all_cold);
        if
        :: active_slot == target -> next = done; mine = generation; cold = 0
        :: active_slot != target && standby_slot != target -> next = refuse       /* standby_changed */
        :: active_slot != target && standby_slot == target -> next = (cold && (!force || all_cold) -> wait : go)
        fi;
        if :: next != go && locked == me -> locked = NOBODY :: else -> skip fi
    };
    if
    :: next == done -> goto settle
    :: next == refuse -> goto answered
    :: next == wait && force -> goto answered                       /* nobody holds it warm */
    :: next == wait && !force -> goto roll
    :: next == wait && !force -> force = true; goto roll            /* time is up */
    :: next == go -> skip
    fi;
    if
    :: d_step {
#ifdef M_ROLLBACK_UNLOCKED
           true ->
#else
           locked == me -> locked = NOBODY;
#endif
           assert(!applied && !rolled && target != active_slot && target == standby_slot && (was_active & BIT(target)));
           applied = true; counted_in_are_warm(target, cold);
#ifdef M_ROLLBACK_SWAPS_BACK
           write(target, active_slot, active_slot);
#else
           write(target, active_slot, 0);
#endif
           rolled = true; watched = false; held = true; mine = generation }
    :: locked != me -> goto lost_call
    fi;

settle: /* Coordinator._settle: until nobody is missing but who was left out, or time is up */
    skip;
    d_step {
        k = 0; missing = 0;
        do
        :: k < REPLICAS && listed[k] && served[k] < mine -> missing = missing | BIT(k); k++
        :: k < REPLICAS && !(listed[k] && served[k] < mine) -> k++
        :: k == REPLICAS -> break
        od;
        k = 0;
#ifdef M_TELL_BEFORE_RECEIPTS
        missing = 0
#endif
    };
    if
    :: (missing & ~cold) -> goto settle
    :: skip                                                         /* nobody, or time is up: they are named */
    :: goto lost_call                                               /* the coordinator dies before it answers */
    fi;
    skip;
    d_step {                                                        /* 200, with the missing named */
        k = 0;
        do
        :: k < REPLICAS && !(missing & BIT(k)) && told[k] < mine -> told[k] = mine; k++
        :: k < REPLICAS && ((missing & BIT(k)) || told[k] >= mine) -> k++
        :: k == REPLICAS -> break
        od;
        k = 0
    };
    goto answered;

lost_call: /* the caller asks for the very same once more */
    if
    :: again -> goto answered
    :: !again && expected -> again = true; goto reload
    :: !again && !expected -> again = true; goto restore
    fi;

answered:
    skip;
    d_step { target = 0; expected = 0; mine = 0; cold = 0; missing = 0; force = false; applied = false; again = false;
             all_cold = false; next = go };
    goto end;
end_called: skip
}

inline lease_of(which) {
    if
    :: d_step { leased[which] || granted[which] -> leased[which] = false; granted[which] = false }   /* its own deadline */
    :: d_step { listed[which] && !leased[which] && !granted[which] ->
        listed[which] = false; served[which] = 0; warm[which] = 0 }                                   /* lease_until */
    fi
}

/* What is nobody's fault: leases run out, the watch ends, Postgres ends a transaction whose process sleeps or is gone. */
proctype World() {
end:do
    :: lease_of(0)
    :: lease_of(1)
#if REPLICAS > 2
    :: lease_of(2)
#endif
    :: d_step { locked != NOBODY -> locked = NOBODY }
    :: d_step { watched -> watched = false }
#ifdef M_HISTORY_APART
    :: d_step { changes < revision -> changes++ }
#endif
    od
}

init {
    byte r;
    atomic {
        version_of[1] = 1;
        listed[0] = true; granted[0] = true; leased[0] = true; serving[0] = 1; served[0] = 1;
        loaded[0] = BIT(1);
#ifdef RELOADED                                                     /* begins a reload later: 2 is active, its watch runs */
        active_slot = 2; standby_slot = 1; previous = 1; generation = 2; version_of[2] = 2; was_active = BIT(1) | BIT(2);
        revision = 3; changes = 3; watched = true; serving[0] = 2; served[0] = 2; loaded[0] = BIT(2);
#endif
#ifdef ROLLED_BACK                                                  /* and a rollback later: 1 is active again, and held */
        generation = 3; version_of[2] = 2; version_of[3] = 1; was_active = BIT(1) | BIT(2); rolled = true; held = true;
        revision = 4; changes = 4; serving[0] = 3; served[0] = 3;
#ifdef M_ROLLBACK_SWAPS_BACK
        previous = 2;                                               /* as that variant's rollback leaves it */
#endif
#endif
        run World(); run Request();
        do :: r < REPLICAS -> run Replica(r); r++ :: else -> break od;
        r = 0;
        do :: r < OPERATORS -> run Operator(r); r++ :: else -> break od;
        r = 0
    }
}
