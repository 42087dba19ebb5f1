"""Code hosting services, which occur in SSH configurations but cannot build."""

from __future__ import annotations

_DOMAINS = (
    "github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "gitea.com", "sr.ht", "dev.azure.com",
    "visualstudio.com", "sourceforge.net", "savannah.gnu.org", "launchpad.net", "salsa.debian.org",
    "gitlab.freedesktop.org", "gitlab.gnome.org", "invent.kde.org", "pagure.io", "framagit.org", "disroot.org",
    "aur.archlinux.org", "hf.co", "huggingface.co", "heroku.com", "gitee.com", "radicle.xyz",
)  # fmt: skip
_WORDS = ("github", "gitlab", "bitbucket", "codeberg")
_USERS = ("git", "aur", "gitea", "forgejo")


def reason(alias: str, host: str, user: str) -> str:
    """Return why this is not a build host, else ''. `host` is the alias where no HostName is set."""
    for name in (host.lower(), alias.lower()):
        known = any(name == domain or name.endswith(f".{domain}") for domain in _DOMAINS)
        if known or (name in _WORDS and host == alias):
            return f"{name} is a Git server, not a build host"
    if host.lower().startswith("git-codecommit.") and host.lower().endswith(".amazonaws.com"):
        return f"{host} is a Git server, not a build host"
    if user.lower() in _USERS:
        return f"the user {user} is for fetching code"
    return ""
