"""Makes `transformers` know this package's model: importing this module is all there is to do.

    import rosita_core.model.register

    model = AutoModelForSequenceClassification.from_pretrained(folder)

From then on Auto classes load ROSITA checkpoints with the classes of this package, and the code
that an exported checkpoint carries is not run, whatever `trust_remote_code` says.
`rosita_core.model.checkpoint` imports it too. It is a module of its own so that
`import rosita_core` and the sizes in `rosita_core.model.shape` stay free of torch, and so that the
model's source, which is copied into checkpoints, registers nothing where it is run from there.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from rosita_core.model.modeling_rosita import (
    RositaConfig,
    RositaForSequenceClassification,
    RositaModel,
)

# A checkpoint that was loaded with its own code may have left its class under the same name.
AutoConfig.register(RositaConfig.model_type, RositaConfig, exist_ok=True)
AutoModel.register(RositaConfig, RositaModel, exist_ok=True)
AutoModelForSequenceClassification.register(
    RositaConfig, RositaForSequenceClassification, exist_ok=True
)
