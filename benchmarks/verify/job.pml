/* The life of one job, as app/training/state.py, app/training/sweep.py, workers/dispatch.py, workers/supervise.py,
   workers/lifeline.py and workers/journal.py live it. `python -m benchmarks.verify` searches it, and its broken variants.

   One d_step is one SQL transaction; between two of them anybody may sleep (SIGSTOP) for as long as he likes, so a pause
   needs no words of its own. Time is tickets: every lease that Postgres gives, at a claim or a renewal, is the next
   ticket. A holder's own deadline for a ticket passes before Postgres's lease of that ticket ends (supervise.MARGIN), and
   within that margin the lifeline has been scheduled and has fired: that is all that is assumed of clocks. */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TICKETS
#define TICKETS 4     /* leases that are ever given */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2    /* max_attempts at the start */
#endif
#define KILLS 1       /* kill -9 of a worker */
#ifndef DRAINS
#define DRAINS 1      /* SIGTERM of a worker */
#endif
#ifndef LOSSES
#define LOSSES 1      /* bells that the broker loses or rings twice; answers of Postgres that never come */
#endif
#define NOBODY 255

mtype = { queued, running, completed, failed, cancelled };
mtype = { none, candidate, error };                           /* what an attempt said last: Journal.outcome */
mtype = { exited, cancel, drained, stalled, lost };           /* supervise.Ending */

/* the row of training_jobs */
mtype state = queued;
byte owner = NOBODY, fence, attempt, max_attempts = ATTEMPTS;
byte lease;                 /* the ticket of the row's lease */
bool cancel_requested;
byte versions;              /* rows of model_versions that name this job */

/* time: the newest ticket, the newest whose deadline has passed, the newest whose lease has ended */
byte tickets, deadlines, ended;

#ifdef BELLS
byte bells = 1;             /* messages in the broker: the trigger's own bell was rung after its commit */
#endif
byte losses = LOSSES, kills = KILLS, drains = DRAINS;

/* the process group of a worker's attempt: 0 gone, 1 spawned, 2 at work (behind lifeline.hold) */
byte group[WORKERS], until[WORKERS];
bool dead[WORKERS], draining[WORKERS];
mtype outcome[WORKERS] = none;

#define TERMINAL (state == completed || state == failed || state == cancelled)
#define LIVE (lease > ended)                                  /* lease_until > clock_timestamp() */

#ifdef M_NO_FENCE
#define FENCED(w, f) (state == running)
#else
#define FENCED(w, f) (state == running && owner == w && fence == f)
#endif
#ifdef M_WRITE_AFTER_LEASE
#define HELD(w, f) FENCED(w, f)
#else
#define HELD(w, f) (FENCED(w, f) && LIVE)                     /* state._held */
#endif

byte i; bool counted;
inline nobody_works() { i = 0; do :: i < WORKERS -> assert(group[i] != 2); i++ :: else -> break od; i = 0 }
inline leave(next) { state = next; owner = NOBODY; lease = 0 }
inline wins(w, f) { assert(owner == w && fence == f && LIVE) }   /* what the code must have seen to, whatever it tests */

/* state.claim */
inline claim(w, f, ticket) {
    d_step {
        ticket = 0;
        if
#ifdef M_CLAIM_ANY
        :: (state == queued || state == running) && tickets < TICKETS ->
#else
        :: state == queued && tickets < TICKETS ->
#endif
            assert(attempt < max_attempts && !cancel_requested && versions == 0);
            state = running; owner = w; attempt++; fence++; tickets++;
            lease = tickets; f = fence; ticket = tickets
        :: else -> skip
        fi
    }
}

/* state.renew; `beat`: 0 no row, 1 renewed, 2 renewed and asked to cancel */
inline renew(w, f, ticket, beat) {
    d_step {
        beat = 0;
        if
#ifdef M_RENEW_AFTER_LEASE
        :: FENCED(w, f) && tickets < TICKETS ->
#else
        :: HELD(w, f) && tickets < TICKETS ->
#endif
            wins(w, f);
            tickets++; lease = tickets; ticket = tickets; beat = (cancel_requested -> 2 : 1)
        :: else -> skip
        fi
    }
}

/* state.complete: completion and version are one statement */
inline complete(w, f) {
    if
    :: HELD(w, f) -> wins(w, f); leave(completed); versions++; assert(versions == 1)
    :: else -> skip
    fi
}

/* state.fail */
inline fail(w, f) { if :: HELD(w, f) -> wins(w, f); leave(failed) :: else -> skip fi }

/* state.confirm_cancelled */
inline confirm_cancelled(w, f) {
    if :: HELD(w, f) -> wins(w, f); nobody_works(); leave(cancelled) :: else -> skip fi
}

/* state.release */
inline release(w, f, counts) {
    if
    :: !HELD(w, f) -> skip
    :: else ->
        wins(w, f);
        if
#ifndef M_RELEASE_FORGETS_CANCEL
        :: cancel_requested -> nobody_works(); leave(cancelled)
#endif
#ifdef M_UNCAPPED
        :: else -> leave(queued); max_attempts = max_attempts + (counts -> 0 : 1)
#else
        :: else ->
            if
            :: counts && attempt >= max_attempts -> leave(failed)
            :: else -> leave(queued); max_attempts = max_attempts + (counts -> 0 : 1)
            fi
#endif
        fi
    fi
}

/* What state.expire does to a row whose lease has run out. */
inline take_back() {
    fence++;
    if
    :: cancel_requested -> nobody_works(); leave(cancelled)
    :: !cancel_requested && attempt >= max_attempts -> leave(failed)
    :: else -> leave(queued)
    fi
}

/* Attempt._write, once the group is gone; a transaction whose answer never comes is written again. */
inline conclude(w, f, ending, counts) {
    d_step {
        assert(ending == lost || group[w] == 0);
        if
        :: ending == cancel -> confirm_cancelled(w, f)
        :: ending == drained -> counts = false; release(w, f, counts)
        :: ending == stalled -> fail(w, f)
        :: ending == exited && outcome[w] == none -> counts = true; release(w, f, counts)
        :: ending == exited && outcome[w] == candidate -> complete(w, f)
        :: ending == exited && outcome[w] == error -> fail(w, f)
        fi;
        counts = false
    }
}

/* One worker: Dispatcher._run_what_waits and the Attempt that it supervises. Killed, it never comes back: the process
   that is started in its place has a new uuid, so it is another worker. */
proctype Worker(byte w) {
    byte f, ticket, beat; bool counts; mtype ending;
    {
end_idle:
        do
        :: draining[w] -> break
#ifdef BELLS
        :: atomic { !draining[w] && bells > 0 -> bells-- }; goto ask
#else
        :: !draining[w] && tickets < TICKETS -> goto ask            /* Dispatcher._poll; any bell, however late or often */
#endif
        od;
        goto end_stopped;
ask:    skip;
        claim(w, f, ticket);
        if
        :: ticket == 0 -> goto end_idle
        :: atomic { ticket != 0 && losses > 0 -> losses-- }; goto end_idle   /* it was claimed, and the answer never came */
        :: ticket != 0 -> skip
        fi;
        d_step {                                                    /* Attempt._spawn */
            outcome[w] = none; group[w] = 1;
#ifdef M_DEADLINE_AFTER_CLAIM
            until[w] = NOBODY;                                      /* counted from the answer: later than the lease */
#else
            until[w] = ticket;
#endif
        }
        do                                                          /* Attempt._watch */
        :: group[w] == 0 -> ending = exited; break
        :: draining[w] -> ending = drained; break
        :: tickets < TICKETS || !HELD(w, f) ->                      /* Attempt._renew */
            renew(w, f, ticket, beat);
            if
            :: beat == 0 -> ending = lost; break
            :: beat == 2 -> ending = cancel; break
            :: d_step { beat == 1 -> until[w] = ticket; ticket = 0 }  /* the new deadline goes down the pipe */
            :: beat == 1 -> ending = stalled; break
            :: atomic { beat == 1 && losses > 0 -> losses-- }       /* renewed, and the answer never came */
            fi
        :: deadlines >= until[w] -> ending = lost; break            /* Postgres is away until the deadline */
        od;
        skip;
#ifndef M_CONCLUDE_BEFORE_END
        d_step { group[w] = 0; ticket = 0; beat = 0 }               /* Attempt._end_group: returns when nothing is left */
#endif
        if
        :: ending == lost -> skip
        :: ending != lost ->
            if
            :: atomic { losses > 0 -> losses-- }; conclude(w, f, ending, counts); conclude(w, f, ending, counts)
            :: conclude(w, f, ending, counts)
            :: deadlines >= until[w] -> skip                        /* Postgres was away: the sweep decides */
            fi
        fi;
        d_step { group[w] = 0; until[w] = 0; outcome[w] = none; f = 0; ticket = 0; beat = 0; ending = exited };
        goto end_idle
    } unless { dead[w] };
    d_step { f = 0; ticket = 0; beat = 0; counts = false; ending = exited };
end_stopped: skip
}

/* workers/run.py with workers/lifeline.py: the processes of a worker's attempt */
proctype Group(byte w) {
end:do
    :: d_step { group[w] == 1 ->
           if :: until[w] > deadlines -> group[w] = 2; i = 0;
                 do :: i < WORKERS -> assert(i == w || group[i] != 2); i++ :: else -> break od; i = 0   /* one runner */
              :: else -> group[w] = 0                               /* lifeline.hold: the deadline has passed */
           fi }
    :: d_step { group[w] == 2 -> outcome[w] = candidate; group[w] = 0 }
    :: d_step { group[w] == 2 -> outcome[w] = error; group[w] = 0 }
    :: d_step { group[w] == 2 -> group[w] = 0 }                     /* kill -9, or memory ran out: no last word */
#ifndef M_NO_LIFELINE
    :: d_step { group[w] != 0 && until[w] <= deadlines -> group[w] = 0 }   /* lifeline: the deadline passes */
    :: d_step { group[w] != 0 && dead[w] -> group[w] = 0 }              /* lifeline: end of file */
#endif
    od
}

/* state.expire and state.take_rings, called by tick.py under an advisory lock: whoever ticks, it is one */
proctype Sweep() {
    bool stuck;
end:do
    :: state == running && !LIVE ->
#ifdef M_SWEEP_BY_ID
        d_step { stuck = (state == running && !LIVE) };
        d_step { if :: stuck -> assert(state == running && !LIVE); take_back() :: else -> skip fi; stuck = false }
#else
        d_step { if :: state == running && !LIVE -> take_back() :: else -> skip fi }
#endif
#if defined(BELLS) && !defined(M_NO_RING)
    :: d_step { state == queued && bells == 0 -> bells = 1 }             /* commit, then ring */
#endif
    od
}

/* The operator's one POST /training/jobs/{id}/cancel: state.request_cancel */
proctype Cancel() {
    bool known;
end:
    if
    :: skip
    :: d_step {
            known = false;
            if :: state == queued -> leave(cancelled); cancel_requested = true; known = true :: else -> skip fi
#ifdef M_CANCEL_UNLOCKED
        };
        d_step {
#endif
            if :: state == running -> cancel_requested = true; known = true :: else -> skip fi
        };
        assert(known || TERMINAL)                                   /* who is told "it has ended" is told the truth */
    fi
}

/* What is nobody's fault */
proctype World() {
    byte w;
end:do
    :: d_step { deadlines < tickets -> deadlines++ }
    :: d_step { ended < deadlines ->                                /* within the margin every lifeline has fired */
           w = 0; counted = true;
#ifndef M_NO_LIFELINE
           do :: w < WORKERS -> counted = counted && !(group[w] == 2 && (until[w] <= ended + 1 || dead[w])); w++
              :: else -> break od;
#endif
           if :: counted -> ended++ :: else -> skip fi; w = 0; counted = false }
#ifdef BELLS
    :: d_step { losses > 0 && bells > 0 -> losses--; bells-- }      /* FLUSHALL */
    :: d_step { losses > 0 && bells == 1 -> losses--; bells++ }     /* redelivery */
#endif
    :: d_step { kills > 0 -> kills--; dead[0] = true }
    :: d_step { drains > 0 -> drains--; draining[WORKERS - 1] = true }
    od
}

init {
    byte w;
    atomic {
        run Sweep(); run Cancel(); run World();
#ifdef M_SWEEP_BY_ID
        run Sweep();                                                /* the advisory lock must not be all that helps */
#endif
        do :: w < WORKERS -> run Worker(w); run Group(w); w++ :: else -> break od
    }
}

/* Ended is ended: no change of state leaves a terminal one, and a cancelled job has no version. */
ltl ended_stays_ended { [] ((state == completed -> [] (state == completed)) && (state == failed -> [] (state == failed))
                            && (state == cancelled -> [] (state == cancelled && versions == 0))) }

/* Nothing accepted is lost: with bells alone (no poll), some of them lost, a job that waits is run or ended. */
ltl nothing_is_lost { [] (state == queued -> <> (state != queued)) }

/* Whatever happens, somebody says how it ended. */
ltl every_job_ends { <> TERMINAL }
