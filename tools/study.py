"""Studies: many seeds x methods x tasks, resumable, one CSV row per run, one JSON object as the last line.

python tools/study.py design --data FOLDER
python tools/study.py recover-combinations --data PATH
python tools/study.py escape --suite core --seeds 5
python tools/study.py landscape --data FOLDER
python tools/study.py next-experiments --data FOLDER
python tools/study.py null-screens
python tools/study.py response --data FOLDER
python tools/study.py response-policy --data FOLDER
python tools/study.py response-scaled --data FOLDER
"""

import argparse
import importlib
import sys
from pathlib import Path

from perturbrl.errors import PerturbRLError

sys.path.insert(0, str(Path(__file__).parent))

STUDIES = {
    "design": "studies.design",
    "escape": "studies.escape",
    "landscape": "studies.landscape",
    "next-experiments": "studies.next_experiments",
    "null-screens": "studies.null_screens",
    "recover-combinations": "studies.recover_combinations",
    "response": "studies.response",
    "response-policy": "studies.response_policy",
    "response-scaled": "studies.response_scaled",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="study", required=True)
    for name, module in STUDIES.items():
        study = importlib.import_module(module)
        about = str(study.__doc__)
        # argparse expands percent signs in what stands in a list of commands, and in no description.
        brief = about.partition("\n\n")[0].replace("%", "%%")
        study.add_arguments(commands.add_parser(name, help=brief, description=about))
    arguments = parser.parse_args()
    try:
        importlib.import_module(STUDIES[arguments.study]).run(arguments)
    except PerturbRLError as error:
        print(f"study: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("study: interrupted; the same command with the same --out goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
