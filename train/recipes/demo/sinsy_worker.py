"""Sing every MusicXML file of a folder; runs in the venv that pysinsy was built in, with numpy alone.

python sinsy_worker.py FOLDER: writes, beside each X.xml, its samples as X.npy (float32, 32768 is full scale).
"""

import sys
from pathlib import Path

import numpy as np
import pysinsy


def main(folder: Path) -> None:
    singer = pysinsy.sinsy.Sinsy()
    if not singer.setLanguages("j", pysinsy.get_default_dic_dir()) or not singer.loadVoices(
        pysinsy.get_default_htsvoice()
    ):
        sys.exit("pysinsy found neither its dictionary nor its voice")
    for score in sorted(folder.glob("*.xml")):
        if not singer.loadScoreFromMusicXML(str(score)):
            sys.exit(f"pysinsy could not read {score.name}")
        audio, rate = singer.synthesize()
        if rate != 48000:
            sys.exit(f"pysinsy sings at {rate} Hz, 48000 was expected")
        np.save(score.with_suffix(".npy"), audio.astype(np.float32))
        singer.clearScore()


main(Path(sys.argv[1]))
