"""Chat models behind OpenAI's protocol: OpenAI, Azure, DeepSeek, Ollama, vLLM, LM Studio, or any address.

In: whose server, which model. Out: the chat model of ``langchain-openai`` for it. Knows addresses, the names
of environment variables and what servers understand, and no chain.

What a client made by hand does wrong here: left without a key of its own, it sends the key of OpenAI that
lies in the environment to whatever server it is pointed at, and OpenAI's organization with it; it limits
replies with a field that other servers overlook; and what is missing it says in OpenAI's words.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import SecretStr

from memorag_core import InputError, MissingExtraError

if TYPE_CHECKING:
    from langchain_openai.chat_models.base import BaseChatOpenAI

Key: TypeAlias = str | SecretStr | None

NO_KEY = "none"
"""What a server that asks for no key gets, because the client sends something."""

# Sent empty, so that the client does not fill them from the environment.
_NOBODY = {"OpenAI-Organization": "", "OpenAI-Project": ""}


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    variable: str | None  # of the environment, with the key; None where none is asked for


_SERVERS = {
    "deepseek": _Server("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "ollama": _Server("http://localhost:11434/v1", None),
    "vllm": _Server("http://localhost:8000/v1", None),
    "lmstudio": _Server("http://localhost:1234/v1", None),
}


def chat_openai(
    provider: str,
    model: str,
    *,
    endpoint: str | None = None,
    api_key: Key = None,
    api_version: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    timeout: float | None = None,
    max_retries: int = 2,
) -> BaseChatOpenAI:
    """The chat model for a server that speaks OpenAI's protocol.

    A key goes only to the server it is for. For what cannot be said here, take the classes of
    ``langchain_openai``.

    Args:
        provider: "openai", "azure", "deepseek", "ollama", "vllm", "lmstudio", or the base URL of a server,
            such as "https://llm.example/v1".
        model: Its name; for Azure, the deployment's.
        endpoint: For Azure, the resource, such as "https://name.openai.azure.com"; None reads
            AZURE_OPENAI_ENDPOINT. For others that are given by name, an address instead of the usual one.
        api_key: None reads OPENAI_API_KEY, AZURE_OPENAI_API_KEY or DEEPSEEK_API_KEY for those three, and
            means no key for all others.
        api_version: Azure's; None reads OPENAI_API_VERSION.
        temperature: None for the server's own.
        max_tokens: The longest reply; None for the server's own.
        timeout: Seconds to wait for a whole reply, or for the next piece of a stream; None for the client's
            ten minutes.
        max_retries: How often a request is sent again after a rate limit, a server's error or a timeout; the
            client waits as long as Retry-After says. A stream that has begun is not.

    Returns:
        A ``ChatOpenAI`` for OpenAI, an ``AzureChatOpenAI`` for Azure. For others their common base: chat
        completions only, with the fields that such servers know.

    Raises:
        InputError: No such provider; a key, endpoint or version that is missing, or that has no use.
        MissingExtraError: ``langchain-openai`` is not installed.
    """
    try:
        from langchain_openai import AzureChatOpenAI, ChatOpenAI
        from langchain_openai.chat_models.base import BaseChatOpenAI
    except ModuleNotFoundError as error:
        raise MissingExtraError("langchain-openai", "openai", "chat_openai", error) from error

    for name, value in (("provider", provider), ("model", model)):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"The {name} is {value!r:.80}; expected text. {_provider_choices()}")
    if api_version is not None and provider != "azure":
        raise InputError(f"There is an api_version for {_shown(provider)}; expected one for 'azure' only.")
    if endpoint is not None:
        _check_url("endpoint", endpoint)
    given = _key(api_key)
    settings: dict[str, Any] = {
        "temperature": temperature,
        "max_tokens": max_tokens,
        "timeout": timeout,
        "max_retries": max_retries,
    }

    if provider == "azure":
        needed = _azure(given, endpoint, api_version)
        return AzureChatOpenAI(
            azure_deployment=model, model=model, default_headers=_NOBODY, **needed, **settings
        )
    if provider == "openai":
        key = given or _required("OpenAI", "OPENAI_API_KEY")
        return ChatOpenAI(model=model, api_key=key, base_url=endpoint, **settings)
    if provider in _SERVERS:
        server = _SERVERS[provider]
        url = endpoint or server.url
        key = given or (_required(provider, server.variable) if server.variable else SecretStr(NO_KEY))
        settings["stream_usage"] = True  # all of these count the tokens of a stream when they are asked to
    else:
        if endpoint is not None:
            raise InputError(
                "The provider is an address, and there is an endpoint too; expected one of them."
            )
        url = _check_url("provider", provider)
        key = given or SecretStr(NO_KEY)
    return BaseChatOpenAI(
        model=model,
        api_key=key,
        base_url=url,
        use_responses_api=False,
        default_headers=_NOBODY,
        **settings,
    )


def _azure(key: SecretStr | None, endpoint: str | None, version: str | None) -> dict[str, Any]:
    """What Azure needs, from arguments or the environment; says all that is missing at once."""
    found = {
        "api_key (AZURE_OPENAI_API_KEY)": key or _secret("AZURE_OPENAI_API_KEY"),
        "endpoint (AZURE_OPENAI_ENDPOINT)": endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT"),
        "api_version (OPENAI_API_VERSION)": version or os.environ.get("OPENAI_API_VERSION"),
    }
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise InputError(
            f"For Azure, this is missing: {', '.join(missing)}. Give it as an argument, or set the variable "
            "of the environment that stands behind it."
        )
    secret, url, api_version = found.values()
    _check_url("endpoint", str(url))
    if urlsplit(str(url)).path.strip("/"):
        raise InputError(
            f"The endpoint for Azure has the path {urlsplit(str(url)).path!r}; expected the resource alone, "
            "such as 'https://name.openai.azure.com'. The address of Azure's v1 protocol is given in place "
            "of 'azure': chat_openai('https://name.openai.azure.com/openai/v1', deployment, api_key=...)."
        )
    return {"api_key": secret, "azure_endpoint": url, "api_version": api_version}


def _key(given: Key) -> SecretStr | None:
    """A key as it was given; an error never shows it."""
    if given is None or isinstance(given, SecretStr):
        key = given
    elif isinstance(given, str):
        key = SecretStr(given)
    else:
        raise InputError(f"The api_key is a {type(given).__name__}; expected a str, a SecretStr or None.")
    if key is not None and not key.get_secret_value().strip():
        raise InputError("The api_key is blank; expected a key. Leave it out to read the environment.")
    return key


def _secret(variable: str) -> SecretStr | None:
    value = os.environ.get(variable, "")
    return SecretStr(value) if value.strip() else None


def _required(name: str, variable: str) -> SecretStr:
    key = _secret(variable)
    if key is None:
        raise InputError(
            f"There is no key for {name}: no api_key was given, and the variable {variable} of the "
            f"environment is not set. Give one of them; keys of other providers are not sent there."
        )
    return key


def _check_url(name: str, url: str) -> str:
    """A usable address; an error shows none that may hold a key."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        choices = _provider_choices() if name == "provider" else "Give one such as 'https://llm.example/v1'."
        raise InputError(f"The {name} is {_shown(url)}; expected an address with http or https. {choices}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            f"The {name} at {parts.hostname} holds more than an address (a user, a password or a query); "
            "expected none, because addresses are shown in traces. Give the key as api_key."
        )
    return url


def _shown(value: object) -> str:
    """A value without what may be a secret in it."""
    plain = isinstance(value, str) and len(value) < 16 and value.replace("-", "").isalnum()
    return repr(value) if plain else "no usable one"


def _provider_choices() -> str:
    names = ", ".join(map(repr, ("openai", "azure", *_SERVERS)))
    return f"Providers are {names}, or the base URL of a server."
