"""The clips of the LipDiffuser demo page in the true layouts of the boards' corpora."""

from __future__ import annotations

from pathlib import Path

# Each with the folder of its clips: what hears the mixture, or is told the voice, says of what.
SYSTEMS = {
    "avgen": "-10",
    "diffv2s": "",
    "il2s_ssl": "",
    "lipvoicer": "",
    "lipdiffuser": "same_clean",
}
BACKGROUND = "data/audio/16kHz/backgrounds/BGD_150203_010_STR.CH1.wav"


def utterances(data: Path) -> list[str]:
    """Return the five ids ``<video>/<utterance>``."""
    root = data / "lrs3_demo" / "orig"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.mp4"))


def link(target: Path, place: Path) -> None:
    """Let a file stand at another place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def environment(root: Path) -> dict[str, str]:
    """Return the variables that the boards read, for the tree below `root`."""
    return {
        "PHONOSCOPE_LRS3": str(root / "lrs3"),
        "PHONOSCOPE_LRS3_ENHANCED": str(root / "lrs3_enhanced"),
        "PHONOSCOPE_CHIME3": str(root / "chime3"),
        "PHONOSCOPE_NTCD_TIMIT": str(root / "ntcd"),
        "PHONOSCOPE_TCD_TIMIT": str(root / "tcd"),
        "PHONOSCOPE_SYSTEMS": str(root / "systems"),
        "PHONOSCOPE_PARTIAL": "true",
    }


def lay_out(root: Path, data: Path, *, videos: int = 5) -> dict[str, str]:
    """Link the demo clips as LRS3, its enhanced track, CHiME3 and outputs of systems.

    Returns
    -------
    dict
        The name that each demo clip has in the tree. With fewer `videos` than five, several
        utterances count as one video's, so that a speaker has more than one.
    """
    demo, names = data / "lrs3_demo", {}
    for number, clip in enumerate(utterances(data)):
        video, utterance = clip.split("/")
        name = clip if videos == 5 else f"video{number % videos}/{number:05d}"
        names[clip] = name
        film = root / "lrs3" / "test" / f"{name}.mp4"
        link(demo / "orig" / f"{video}/{utterance}.mp4", film)
        film.with_suffix(".txt").write_text("Text:  SIX WORDS THAT NOBODY SAID HERE\n", "utf-8")
        link(demo / "enhanced" / f"{clip}.mp4", root / "lrs3_enhanced" / f"{name}.mp4")
        for system, folder in SYSTEMS.items():
            place = root / "systems" / system / "lrs3" / folder / f"{name}.mp4"
            link(demo / system / f"{clip}.mp4", place)
    link(data / "noise" / "noise1.wav", root / "chime3" / BACKGROUND)
    return names
