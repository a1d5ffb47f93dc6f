"""Every setting, said once: title, what it does, range, typical value, risk.

The page's form, the command line, the HTTP API, validation and the documentation are made from these fields.
Configs are frozen, refuse unknown keys and refuse NaN and infinity.
"""

from sdplay.config.drawing import AnimateConfig, CompareConfig, DrawConfig, GenerateConfig, Scheduler
from sdplay.config.methods import DreamBoothConfig, LoraConfig, PivotalConfig, TextualInversionConfig
from sdplay.config.settings import Config, ConfigT, Level, Text, parse, parse_assignment, setting
from sdplay.config.train import AdapterConfig, FrozenWeights, PriorConfig, TextEncoderConfig, TrainConfig, WordsConfig

__all__ = (
    "AdapterConfig", "AnimateConfig", "CompareConfig", "Config", "ConfigT", "DrawConfig", "DreamBoothConfig", "FrozenWeights",
    "GenerateConfig", "Level", "LoraConfig", "PivotalConfig", "PriorConfig", "Scheduler", "Text", "TextEncoderConfig",
    "TextualInversionConfig", "TrainConfig", "WordsConfig", "parse", "parse_assignment", "setting",
)  # fmt: skip
