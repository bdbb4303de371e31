"""Which class of a bundle each class of a manifest is: by name, by a name from elsewhere, or by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medresnet3d.data.manifest import Manifest
from medresnet3d.errors import DataError
from medresnet3d.workflows.predictor import Predictor

REST = "other"
"""In a manifest of two classes, the name of everything that the other class is not."""

Classes = tuple[int, ...]


@dataclass(frozen=True)
class LabelMatch:
    """What is compared where a manifest's classes are not one by one the bundle's.

    Attributes:
        index: the compared class of each class number of the manifest.
        names: the compared classes, in order: the bundle's, unless some of them are taken together.
        members: class numbers of the bundle that are taken together as each compared class.
        notes: how the classes were matched, where that does not go without saying; one sentence each.
    """

    index: Sequence[int] = ()
    names: Sequence[str] = ()
    members: Sequence[Classes] = ()
    notes: Sequence[str] = field(default=())

    @property
    def together(self) -> bool:
        """Whether classes of the bundle are taken together."""
        return any(len(one) > 1 for one in self.members)

    def probabilities(self, given: Mapping[str, float]) -> dict[str, float]:
        """Give the probabilities of the compared classes.

        Args:
            given: probabilities of the bundle's classes by name, in order.
        """
        if not self.together:
            return dict(given)
        values = list(given.values())
        return {name: sum(values[number] for number in one) for name, one in zip(self.names, self.members, strict=True)}


def match_to_bundle(manifest: Manifest, predictor: Predictor) -> LabelMatch:
    """Match the classes of a manifest to those of a bundle in memory; there are none in a regression.

    Raises:
        DataError: if the classes do not fit.
    """
    if predictor.task == "regression":
        return LabelMatch()
    elsewhere = predictor.metadata.get("names_elsewhere", {})
    together = predictor.task == "classification"
    return match_labels(manifest.labels, predictor.labels, manifest.where, elsewhere, together=together)


def match_labels(
    manifest_labels: Sequence[str],
    bundle_labels: Sequence[str],
    where: str,
    names_elsewhere: Mapping[str, Sequence[str]] | None = None,
    *,
    together: bool = True,
) -> LabelMatch:
    """Find what each class of a manifest is among the classes of a bundle.

    Names are matched without regard to case: the bundle's own, then those that it lists as used elsewhere. Several
    names may mean one class. A name that is listed under several classes means all of them, and so does
    :data:`REST`; then their probabilities are added. Where no name is known but they are as many, the order is trusted
    and a note says so.

    Args:
        manifest_labels: class names of the manifest, in order; empty where it names none.
        bundle_labels: class names of the bundle, in order.
        where: the manifest, for the message.
        names_elsewhere: by class of the bundle, by what other names collections call it.
        together: whether several classes of the bundle may be taken together as one.

    Raises:
        DataError: if the classes do not fit.
    """
    numbers = tuple(range(len(bundle_labels)))
    alone = [(number,) for number in numbers]
    if not manifest_labels:
        note = f"The manifest names no classes; numbers are taken in the bundle's order: {_list(bundle_labels)}."
        return LabelMatch(numbers, bundle_labels, alone, [note])
    meant = _meant(manifest_labels, bundle_labels, names_elsewhere or {}, together)
    if all(meant) and _are_apart(meant):
        return _translated(manifest_labels, bundle_labels, meant)
    if len(manifest_labels) == len(bundle_labels) and not any(meant):
        note = (
            f"The manifest's classes ({_list(manifest_labels)}) are named otherwise than the bundle's "
            f"({_list(bundle_labels)}); they are matched by number."
        )
        return LabelMatch(numbers, bundle_labels, alone, [note])
    raise DataError(
        f"{where}: its classes ({_list(manifest_labels)}) are not those of the bundle ({_list(bundle_labels)}); "
        "use a bundle that was trained for them, or give classes that mean the same the bundle's names."
    )


def _meant(
    manifest_labels: Sequence[str],
    bundle_labels: Sequence[str],
    names_elsewhere: Mapping[str, Sequence[str]],
    together: bool,
) -> list[Classes]:
    """The bundle's class numbers that each name of the manifest means; none for an unknown name."""
    own = {name.casefold(): (number,) for number, name in enumerate(bundle_labels)}
    known: dict[str, Classes] = {}
    for number, name in enumerate(bundle_labels):
        for other in names_elsewhere.get(name, ()):
            known[other.casefold()] = (*known.get(other.casefold(), ()), number)
    known |= own
    names = [name.casefold() for name in manifest_labels]
    meant = [known.get(name, ()) for name in names]
    if len(names) == 2 and REST in names and REST not in known:
        rest = names.index(REST)
        not_rest = meant[1 - rest]
        meant[rest] = tuple(n for n in range(len(bundle_labels)) if n not in not_rest) if not_rest else ()
    return [one if together or len(one) == 1 else () for one in meant]


def _are_apart(meant: Sequence[Classes]) -> bool:
    """Whether no class of the bundle is meant by two names that do not mean the same."""
    numbers = [number for one in set(meant) for number in one]
    return len(numbers) == len(set(numbers))


def _translated(manifest_labels: Sequence[str], bundle_labels: Sequence[str], meant: Sequence[Classes]) -> LabelMatch:
    called: dict[Classes, list[str]] = {}
    for name, one in zip(manifest_labels, meant, strict=True):
        called.setdefault(one, []).append(name)
    note = _note(called, bundle_labels)
    used = {number for one in called for number in one}
    members: list[Classes]
    if all(len(one) == 1 for one in called):
        members = [(number,) for number in range(len(bundle_labels))]
        names = list(bundle_labels)
    else:  # the manifest's order decides which of two classes is the positive one
        members = [*called, *((number,) for number in range(len(bundle_labels)) if number not in used)]
        names = [" / ".join(called.get(one, [bundle_labels[one[0]]])) for one in members]
    return LabelMatch([members.index(one) for one in meant], names, members, note)


def _note(called: Mapping[Classes, Sequence[str]], bundle_labels: Sequence[str]) -> list[str]:
    """Say which names were taken for which classes, but for those that are the same."""
    taken = []
    for one, names in called.items():
        classes = [bundle_labels[number] for number in one]
        if [name.casefold() for name in names] != [name.casefold() for name in classes]:
            taken.append(f"{_and(names)} for {_and(classes)}")
    if not taken:
        return []
    added = any(len(one) > 1 for one in called)
    end = "; the probabilities of classes that one name stands for are added" if added else ""
    return [f"Names of the manifest are taken for classes of the bundle: {'; '.join(taken)}{end}."]


def _and(names: Sequence[str]) -> str:
    return " and ".join([*([_list(names[:-1])] if names[:-1] else []), names[-1]])


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
