"""The answerer that the settings name. Before it: `bootstrap.py`. After it: `extractive.py`, or `writer.py`."""

from __future__ import annotations

import httpx

from query_api.answering.answers import Answerer
from query_api.answering.chat import Chat
from query_api.answering.cohere_chat import CohereChat
from query_api.answering.extractive import Extractive
from query_api.answering.openai_chat import OpenAiChat
from query_api.answering.prompts import prompt_of
from query_api.answering.writer import Writer
from runtime.settings import SettingsError
from runtime.settings_answering import Answer as AnswerSettings
from runtime.spending import Spending

COHERE_MODEL = "command-a-03-2025"
OPENAI_MODEL = "gpt-4o-mini"


def answerer_from(settings: AnswerSettings, http: httpx.AsyncClient, spending: Spending) -> Answerer:
    """The answerer; nobody is asked yet. Raises SettingsError if a key is missing or the prompt cannot be read."""
    if settings.provider == "extractive":
        return Extractive()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if key is None and settings.url is None:
        raise SettingsError(
            f"answer.api_key: {settings.provider} needs a key (THALWEG_ANSWER__API_KEY, .._API_KEY_FILE)"
        )
    cohere = settings.provider == "cohere"
    chat: Chat = CohereChat(settings, key, http) if cohere else OpenAiChat(settings, key, http)
    model = settings.model or (COHERE_MODEL if cohere else OPENAI_MODEL)
    return Writer(chat, settings, model, prompt_of(settings.prompt), spending)
