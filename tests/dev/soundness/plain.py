"""Train or test a config with MMEngine, without mmfmkt.

python tests/dev/soundness/plain.py CONFIG WORK_DIR [KEY=VALUE ...]
python tests/dev/soundness/plain.py --test CONFIG WORK_DIR CHECKPOINT
"""

import sys
from ast import literal_eval

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


def main() -> None:
    testing = sys.argv[1] == '--test'
    path, work_dir, *more = sys.argv[1 + testing :]
    cfg = Config.fromfile(path)
    cfg.work_dir = work_dir
    if testing:
        cfg.load_from = more[0]
    else:
        for setting in more:
            key, value = setting.split('=', 1)
            cfg.merge_from_dict({key: literal_eval(value)})
    if 'runner_type' in cfg:
        runner = RUNNERS.build(cfg)
    else:
        runner = Runner.from_cfg(cfg)
    runner.test() if testing else runner.train()
    if any(name.split('.')[0] == 'mmfmkt' for name in sys.modules):
        sys.exit('mmfmkt was imported.')


if __name__ == '__main__':
    main()
