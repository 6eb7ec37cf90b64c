"""Atomic checkpoints with the states of an exact resume."""

from typing import Any, Dict, Optional

from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmfmkt.models.distillers.gradient_share import GradientShare
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import digest
from mmfmkt.utils.files import AtomicLocalBackend
from mmfmkt.utils.random_stream import get_random_states, set_random_states

from ..hooks.progress import unwrap_model
from .batch_stream import BatchStream
from .random_states import pack_states, unpack_states

# Checkpoint key of the states of an exact resume.
STATE_KEY = 'resume'
INTERRUPTED_FILE = 'interrupted.pth'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """CheckpointHook with atomic files and the states of an exact resume.

    Args:
        exact_resume (bool): Whether a checkpoint stores the SHA-256 digest
            of the teacher's weights and the random states of all ranks and
            dataloader workers. Requires a loop of `mmfmkt.engine.resume`.
        atomic (bool): Whether local files are written to a temporary file
            and renamed, and old checkpoints are removed only after the new
            one is complete.
        kwargs: Arguments of CheckpointHook.
    """

    def __init__(
        self, exact_resume: bool = True, atomic: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.exact_resume, self.atomic = exact_resume, atomic
        self._pre_val_states: Optional[bytes] = None
        self._resume_state: Optional[dict] = None
        self._interrupted_meta: Dict[str, int] = {}
        self._teacher_digest = ''
        self._is_val_due = False

    def before_train(self, runner: Runner) -> None:
        """Check the teacher, and make up for an interrupted validation."""
        out_dir = str(self.out_dir or runner.work_dir)
        has_backend = self.backend_args or self.file_client_args
        if self.atomic and not has_backend and '://' not in out_dir:
            self.backend_args = dict(backend='atomic')
        super().before_train(runner)
        if self.exact_resume:
            # Semi-supervised detectors have a `teacher` that is trained.
            holder = getattr(
                unwrap_model(runner.model), 'teacher_holder', None
            )
            resumed = self._teacher_digest
            self._teacher_digest = digest(holder.network) if holder else ''
            # Earlier versions stored the digest of such a teacher, too.
            if self._teacher_digest and resumed not in (
                '',
                self._teacher_digest,
            ):
                raise ConfigError(
                    'model.teacher: the weights differ from those of the '
                    'teacher in the resumed run. Restore its checkpoint, or '
                    'start a new run with load_from instead of --resume.'
                )
        if self._is_val_due and runner.val_loop is not None:
            states = runner.train_loop.stream.main_state
            if states:
                set_random_states(unpack_states(states))
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Store the random states, which validation may change."""
        if self.exact_resume:
            self._pre_val_states = pack_states(get_random_states())

    def after_val(self, runner: Runner) -> None:
        """Restore the random states after validation."""
        if self._pre_val_states is not None:
            set_random_states(unpack_states(self._pre_val_states))
            self._pre_val_states = None

    def after_val_epoch(self, runner: Runner, metrics: Dict[str, Any]) -> None:
        """Save the best checkpoint, then delete the previous best one."""
        super().after_val_epoch(runner, metrics)
        self._delete_removed()

    def _delete_removed(self) -> None:
        """Delete old checkpoints after the new one is complete."""
        if isinstance(self.file_backend, AtomicLocalBackend):
            self.file_backend.delete_removed()

    def save_interrupted(self, runner: Runner, meta: Dict[str, int]) -> str:
        """Save a checkpoint of an interrupted run.

        Args:
            runner (Runner): The runner of the training process.
            meta (dict): ``epoch`` and ``iter`` at which the run resumes.

        Returns:
            str: Path of the checkpoint.
        """
        # These settings may be overwritten: this checkpoint is the last one.
        self.filename_tmpl, self.max_keep_ckpts = INTERRUPTED_FILE, 0
        is_val_due = self._pre_val_states is not None
        self._interrupted_meta = dict(meta, is_val_due=is_val_due)
        self._save_checkpoint_with_step(runner, 0, {})
        return self.last_ckpt

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state of an exact resume."""
        # FlexibleRunner overwrites the epoch and iteration of a hook.
        checkpoint['meta'].update(self._interrupted_meta)
        if self._resume_state is not None:
            checkpoint[STATE_KEY] = self._resume_state

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the state of an exact resume."""
        state = checkpoint.get(STATE_KEY)
        if not getattr(runner, '_resume', False) or state is None:
            return
        stream = self._stream(runner)
        if stream is None:
            return
        self._teacher_digest = state['teacher']
        self._is_val_due = checkpoint['meta'].get('is_val_due', False)
        saved_sizes = len(state['ranks']), state['num_batches']
        sizes = runner.world_size, len(runner.train_dataloader)
        if saved_sizes != sizes:
            runner.logger.warning(
                'Resuming is not exact: the checkpoint was saved by a run of '
                f'{saved_sizes[0]} processes and {saved_sizes[1]} batches per '
                f'epoch, this run has {sizes[0]} and {sizes[1]}.'
            )
            return
        rank_state = state['ranks'][get_rank()]
        stream.resume(rank_state['main'], rank_state['workers'])
        if rank_state['distiller']:
            random_stream = unwrap_model(runner.model).random_stream
            random_stream.states = unpack_states(rank_state['distiller'])

    def _stream(self, runner: Runner) -> Optional[BatchStream]:
        """Return the loop's batch stream if resuming is exact."""
        if not self.exact_resume:
            return None
        return getattr(runner.train_loop, 'stream', None)

    # Private method of MMEngine 0.10, which has no hook around saving.
    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        self._resume_state = self._gather_states(runner)
        super()._save_checkpoint_with_step(runner, step, meta)
        self._resume_state = None
        backend = self.file_backend
        interrupted = backend.join_path(self.out_dir, INTERRUPTED_FILE)
        is_old = is_main_process() and interrupted != self.last_ckpt
        if is_old and backend.isfile(interrupted):
            backend.remove(interrupted)
        self._delete_removed()

    def _gather_states(self, runner: Runner) -> Optional[dict]:
        """Gather the states of an exact resume from all ranks."""
        stream = self._stream(runner)
        if stream is None:
            return None
        model = unwrap_model(runner.model)
        for module in model.modules():
            if isinstance(module, GradientShare):
                module.average_last()  # the checkpoint has those of rank 0
        has_random_stream = hasattr(model, 'random_stream')
        rank_state = dict(
            main=self._pre_val_states or pack_states(get_random_states()),
            workers=stream.worker_states,
            distiller=pack_states(model.random_stream.states)
            if has_random_stream
            else b'',
        )
        return dict(
            ranks=all_gather_object(rank_state),
            num_batches=len(runner.train_dataloader),
            teacher=self._teacher_digest,
        )
