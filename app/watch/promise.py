"""What a version is held to while it is watched: what the gate measured, and how the version before it did.

Pure: the figures go in, the promise comes out. It is written down once, and never moves with what is seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.definitions.watching import WatchOptions
from app.monitoring.sequential import f1_lower_bound, share_lower_bound, share_upper_bound

Promise = dict[str, Any]

# A version that was quick may become five times as slow before anybody is woken, and one of microseconds more so.
SLOWER, SLOW_SECONDS = 5.0, 0.05
# What the p99 of the gate promises.
LATENCY_SHARE = 0.01


def promise(
    options: WatchOptions,
    standings: Mapping[str, Sequence[Mapping[str, Any]]],
    latency_limit: float | None,
    profile: Mapping[str, Any],
    before: Mapping[str, Any],
) -> Promise:
    """`{check: {kind, limit, false_alarms, …}}`, without what cannot be promised and what the definition drops.

    `standings` are the gate's counts by head, {label, actual, given, hits} for each label. `before` has the live
    figures of the version before, each where it has enough of them: {f1: {head: x}, f1_of: {head: {label: x}},
    accuracy: {head: x}, acceptance: (hits, n), errors: (hits, n), p99, shift: {head: x}}. Where that version did worse
    than the gate promises of the new one, no more than that is asked: the world has changed, and going back would not
    help.
    """
    heads = profile.get("heads", {})
    # Every check has its part of the false alarms (Bonferroni), and labels, which say most, have half of all. Half of a
    # part is for the test, half for what the gate, or so few answers of the version before, did not know.
    of_labels = options.false_alarms / 2 / max(1, len(standings))
    of_others = options.false_alarms / 2 / (len(heads) + 3)
    labels = {f"f1:{head}": _f1(options, head, counts, before, of_labels) for head, counts in standings.items()}
    others = {
        "acceptance": _acceptance(options, before, of_others / 2),
        "errors": _errors(options, before, of_others / 2),
        "latency": _latency(options, latency_limit, before),
        **{f"scores:{head}": _scores(options, head, told, before) for head, told in heads.items()},
    }
    every = [(name, check, of_labels) for name, check in labels.items()]
    every += [(name, check, of_others) for name, check in others.items()]
    return {name: check | {"false_alarms": part} for name, check, part in every if check is not None}


def _f1(
    options: WatchOptions, head: str, counts: Sequence[Mapping[str, Any]], before: Mapping[str, Any], part: float
) -> Promise | None:
    """Of two labels the second's F1; of more each one's, and the share of right answers, which a drop in all labels
    lowers long before any one of them has been seen often. What the holdout's size leaves open is subtracted."""
    if options.max_f1_drop is None or not counts:
        return None
    judged = counts[1:] if len(counts) == 2 else counts
    doubt = part / 2 / (len(judged) if len(counts) == 2 else 2 * len(judged))
    was, of_label = before.get("f1", {}).get(head), before.get("f1_of", {}).get(head, {})
    check = {
        "kind": "f1",
        "head": head,
        "promised": round(sum(_f1_of(each) for each in judged) / len(judged), 5),
        "before": was,
        "limits": {
            str(each["label"]): _f1_limit(options.max_f1_drop, each, of_label.get(str(each["label"])), doubt)
            for each in judged
        },
    }
    if len(counts) > 2:
        right, rows = sum(each["hits"] for each in counts), sum(each["actual"] for each in counts)
        promised = min(share_lower_bound(right, rows, part / 4), before.get("accuracy", {}).get(head, 1.0))
        check["right"] = round(max(0.0, promised - options.max_f1_drop), 5)
    return check


def _f1_of(counts: Mapping[str, Any]) -> float:
    return float(2 * counts["hits"] / max(1, counts["actual"] + counts["given"]))


def _f1_limit(drop: float, counts: Mapping[str, Any], was: float | None, doubt: float) -> float:
    hits, both = counts["hits"], counts["actual"] + counts["given"]
    at_least = f1_lower_bound(hits, both - 2 * hits, doubt)
    promised = at_least if was is None else min(at_least, was)
    return round(max(0.0, promised - drop), 5)


def _acceptance(options: WatchOptions, before: Mapping[str, Any], doubt: float) -> Promise | None:
    if options.max_acceptance_drop is None or before.get("acceptance") is None:
        return None
    accepted, n = before["acceptance"]
    limit = max(0.0, share_lower_bound(accepted, n, doubt) - options.max_acceptance_drop)
    return {"kind": "acceptance", "before": accepted / n, "limit": round(limit, 5)}


def _errors(options: WatchOptions, before: Mapping[str, Any], doubt: float) -> Promise | None:
    if options.max_error_rise is None:
        return None
    errors, n = before.get("errors") or (0, 0)
    at_most = share_upper_bound(errors, n, doubt) if n else 0.0
    limit = min(0.99, at_most + options.max_error_rise)
    return {"kind": "errors", "before": errors / n if n else 0.0, "limit": round(limit, 5)}


def _latency(options: WatchOptions, limit: float | None, before: Mapping[str, Any]) -> Promise | None:
    if options.max_slow_share is None:
        return None
    was = before.get("p99")
    relative = None if was is None else max(SLOW_SECONDS, SLOWER * was)
    asked = [each for each in (options.slow_seconds, limit, relative) if each is not None]
    if not asked:
        return None
    share = LATENCY_SHARE + options.max_slow_share
    return {"kind": "latency", "before": was, "seconds": options.slow_seconds or min(asked), "limit": round(share, 5)}


def _scores(options: WatchOptions, head: str, told: Mapping[str, Any], before: Mapping[str, Any]) -> Promise | None:
    if options.max_score_shift is None or not told.get("scores", {}).get("edges"):
        return None
    was = before.get("shift", {}).get(head) or 0.0
    return {
        "kind": "scores",
        "head": head,
        "before": was,
        "reference": list(told["scores"]["counts"]),
        "limit": round(min(1.0, was + options.max_score_shift), 5),
    }
