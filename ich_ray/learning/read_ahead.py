"""The minibatches of the next steps, made in threads while this step's is trained on."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from ich_ray.learning.loading import Loader, Minibatch, Minibatches


class ReadAhead:
    """A Loader around another one; its minibatches are the other's, sooner."""

    def __init__(self, loader: Loader, *, last: int, threads: int, depth: int, pin: bool) -> None:
        """Begin nothing until a step is asked.

        Args:
            loader: Makes the minibatch of a step, whatever was made before and in any thread.
            last: Steps of the run; none from here on is made unless it is asked.
            threads: At least 1.
            depth: Minibatches made, or being made, beyond the one that is asked.
            pin: Whether to put them in page-locked memory, which a CUDA device copies faster.
        """
        self._loader = loader
        self._last = last
        self._depth = depth
        self._pin = pin
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        self._begun: deque[tuple[int, Future[Minibatches]]] = deque()
        """Of consecutive steps."""

    def __call__(self, step: int) -> Minibatches:
        """Return the minibatches of a step, and have the next ones made; raise what its own raised.

        After a step that does not follow, nothing of what was made ahead is kept but what is
        ahead of it too.
        """
        self._drop(before=step)
        if not self._begun:
            self._begin(step)
        while self._begun[-1][0] < min(step + self._depth, self._last - 1):
            self._begin(self._begun[-1][0] + 1)
        return self._begun.popleft()[1].result()

    def __enter__(self) -> "ReadAhead":
        """Close at the end of the block, however it ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the threads."""
        self.close()

    def close(self) -> None:
        """End the threads, each after the minibatch that it is making; may be repeated."""
        self._begun.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int) -> None:
        self._begun.append((step, self._threads.submit(self._made, step)))

    def _made(self, step: int) -> Minibatches:
        batches = self._loader(step)
        return tuple(map(_pinned, batches)) if self._pin else batches

    def _drop(self, *, before: int) -> None:
        """Forget all that was begun up to a step, which then is the first, or none is."""
        dropped = []
        while self._begun and self._begun[0][0] != before:
            dropped.append(self._begun.popleft()[1])
        # Those that run cannot be stopped; beside new ones they would be more than `depth`.
        wait([future for future in dropped if not future.cancel()])


def _pinned(batch: Minibatch) -> Minibatch:
    return batch._replace(
        images=batch.images.pin_memory(),
        masks=batch.masks.pin_memory(),
        soft=batch.soft.pin_memory(),
        whole_label=batch.whole_label.pin_memory(),
    )
