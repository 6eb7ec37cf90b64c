"""Checkpoints that survive a kill, and from which a run goes on exactly."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import digest
from mmfmkt.utils.random_stream import get_random_states, set_random_states

from ..hooks.progress import unwrap_model
from .random_states import pack_states, unpack_states

STATE = 'resume'
INTERRUPTED = 'interrupted.pth'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """CheckpointHook with atomic files and the states of an exact resume.

    Args:
        exact_resume (bool): Whether a checkpoint also holds the random states
            of all ranks and their workers, so that a resumed run ends with
            the weights of an uninterrupted one, and the teacher's digest.
        atomic (bool): Whether files are written aside and renamed, and an
            old one is removed only when the new one is complete.
        kwargs: As CheckpointHook.
    """

    def __init__(
        self, exact_resume: bool = True, atomic: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.exact_resume, self.atomic = exact_resume, atomic
        self._main: Optional[bytes] = None
        self._to_save: Optional[dict] = None
        self._teacher = ''

    def before_train(self, runner: Runner) -> None:
        """Choose the backend of local files; check the teacher."""
        out_dir = str(self.out_dir or runner.work_dir)
        own = self.backend_args or self.file_client_args
        if self.atomic and not own and '://' not in out_dir:
            self.backend_args = dict(backend='atomic')
        super().before_train(runner)
        if self.exact_resume:
            teacher = getattr(unwrap_model(runner.model), 'teacher', None)
            self._check_teacher(digest(teacher) if teacher is not None else '')

    def before_val(self, runner: Runner) -> None:
        """Keep the random states of training: validation may draw, too."""
        if self.exact_resume:
            self._main = pack_states(get_random_states())

    def after_val(self, runner: Runner) -> None:
        """Restore the random states from before the validation."""
        if self._main is not None:
            set_random_states(unpack_states(self._main))
            self._main = None

    def save_interrupted(self, runner: Runner, meta: Dict[str, int]) -> str:
        """Save where a run is, between its regular checkpoints.

        Args:
            runner (Runner): The runner of the training process.
            meta (dict): ``epoch`` and ``iter`` to go on from.

        Returns:
            str: The file.
        """
        # The run ends here, so nothing else is saved with these.
        self.filename_tmpl, self.max_keep_ckpts = INTERRUPTED, 0
        self._to_save = self._states(runner, meta)
        super()._save_checkpoint_with_step(runner, 0, meta)
        return self.last_ckpt

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what a run needs to go on exactly."""
        if self._to_save is not None:
            checkpoint[STATE] = self._to_save

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on in the states that the checkpoint has.

        Raises:
            ConfigError: If the teacher is not the one that taught so far.
        """
        state = checkpoint.get(STATE)
        resumes = self.exact_resume and getattr(runner, '_resume', False)
        if not resumes or state is None:
            return
        self._teacher = state['teacher']
        stream = getattr(runner.train_loop, 'stream', None)
        same = len(state['ranks']) == runner.world_size and state[
            'num_batches'
        ] == len(runner.train_dataloader)
        if not same:
            runner.logger.warning(
                f'The checkpoint is of {len(state["ranks"])} processes and '
                f'{state["num_batches"]} batches an epoch, this run of '
                f'{runner.world_size} and {len(runner.train_dataloader)}: it '
                'goes on, but draws other random numbers.'
            )
        elif stream is not None:
            mine = state['ranks'][get_rank()]
            stream.resume(mine['main'], mine['workers'])
            ours = getattr(unwrap_model(runner.model), 'random_stream', None)
            if ours is not None:
                drawn = mine['distiller']  # empty where it has not begun
                ours.states = unpack_states(drawn) if drawn else {}

    def _check_teacher(self, found: str) -> None:
        if self._teacher and found != self._teacher:
            raise ConfigError(
                'model.teacher: its weights are not those of the teacher in '
                'the run that is resumed: give back the file that it had, or '
                'start a run of its own by load_from in the place of --resume.'
            )
        self._teacher = found

    # Private methods of MMEngine 0.10: it has no public hook around a save.
    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        self._to_save = self._states(runner, meta)
        with self._removing_later():
            super()._save_checkpoint_with_step(runner, step, meta)
        self._to_save = None
        interrupted = self.file_backend.join_path(self.out_dir, INTERRUPTED)
        if is_main_process() and self.file_backend.exists(interrupted):
            if self.file_backend.isfile(interrupted):
                self.file_backend.remove(interrupted)
            else:  # DeepSpeed's
                self.file_backend.rmtree(interrupted)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_later(self) -> Iterator[None]:
        """Remove old checkpoints only when the new one is complete."""
        if not self.atomic:
            yield
            return
        backend = self.file_backend
        self.file_backend = later = RemovingLater(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        for remove, path in later.todo:
            remove(path)

    def _states(self, runner: Runner, meta: dict) -> Optional[dict]:
        """Gather the states that an exact resume needs, of all ranks."""
        if not self.exact_resume:
            return None
        at_end = isinstance(runner.train_loop, EpochBasedTrainLoop) and (
            meta['epoch'] != runner.epoch or self._main is not None
        )
        stream = getattr(runner.train_loop, 'stream', None)
        ours = getattr(unwrap_model(runner.model), 'random_stream', None)
        mine = dict(
            main=self._main or pack_states(get_random_states()),
            workers=stream.workers(at_end) if stream else {},
            distiller=pack_states(ours.states) if ours is not None else b'',
        )
        return dict(
            ranks=all_gather_object(mine),
            num_batches=len(runner.train_dataloader),
            teacher=self._teacher,
        )


class RemovingLater:
    """A storage backend that notes what it is asked to remove.

    Args:
        backend (BaseStorageBackend): The real one.

    Attributes:
        todo (list[tuple]): Functions of the real one, and paths for them.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.todo: List[tuple] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.backend, name)
        if name in ('remove', 'rmtree'):
            return lambda path: self.todo.append((real, path))
        return real
