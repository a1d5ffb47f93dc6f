"""Put a folder on the Hugging Face Hub as a model repository. Nothing is sent unless somebody asks."""

from __future__ import annotations

from pathlib import Path

from sdplay.errors import ModelError
from sdplay.hub import HUB_ID


def push_folder(folder: Path, repository: str, *, token: str = "", private: bool = True) -> str:
    """Create the repository if it is not there, upload the folder in one commit, return the address. Raises ModelError.

    token: a token that may write; empty: the one that `hf auth login` or HF_TOKEN left. It is neither kept nor logged.
    """
    if not HUB_ID.fullmatch(repository):
        raise ModelError(f"{repository[:80]!r} is no name of a repository.", "Write owner/name.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        hub = HfApi(token=token or None)
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload from sdplay")
    except LocalTokenNotFoundError:
        raise ModelError("The Hub does not know who you are.", "Give a token that may write, or run `hf auth login` first.") from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in (401, 403):
            raise ModelError(f"The Hub does not let this token write to {repository}.", "Give a token that may write there.") from None
        raise ModelError(f"The Hub answered with an error ({code}).", "Try again later.") from None
    except (OfflineModeIsEnabled, OSError, ConnectionError) as error:
        raise ModelError(f"The Hub cannot be reached: {type(error).__name__}.", "Check the connection and try again.") from None
    return f"https://huggingface.co/{repository}"
