"""``bothways push``: a model to the Hugging Face Hub."""

from pathlib import Path

from bothways.checkpoints import publishing


def push(
    model: str | Path,
    *,
    to: str,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload a model of bothways",
) -> str:
    """Publish a model on the Hugging Face Hub.

    Args:
        model: a run, whose best model and model card go along, or a folder.
        to: ``owner/name``; the repository is made if there is none.
        private: whether a repository that is made can be seen by its owner alone; None: as the owner's account has it.
        revision: branch, which is made if there is none; None: the main branch.
        message: of the commit.
    Returns:
        The address of the commit.
    Raises:
        UserError: there is no such model, or the Hub refuses; the message says what to do.
    """
    return publishing.push(model, to, private=private, revision=revision, message=message)
