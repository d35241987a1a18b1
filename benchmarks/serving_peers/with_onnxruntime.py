"""ONNX Runtime's side of `serving.py`: the encoder exported by torch, its BERT layers fused, then
dynamic int8, as ONNX Runtime's own tools do it."""

from __future__ import annotations

import pathlib
from typing import Any

import padded
from side import Job, main, threads

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def convert(job: Job) -> None:
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoConfig, AutoModel

    source, target = job["paths"]["minilm"], pathlib.Path(job["paths"]["onnxruntime"])
    target.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.from_pretrained(source)
    model = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class States(torch.nn.Module):
        """Without names of arguments, which the exporter would take for the model's own."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = model

        def forward(self, ids: Any, mask: Any, kinds: Any) -> Any:
            found = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=kinds)
            return found.last_hidden_state

    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in INPUTS)
    torch.onnx.export(
        States(),
        example,
        str(target / "exported.onnx"),
        input_names=INPUTS,
        output_names=["states"],
        dynamic_axes={name: {0: "batch", 1: "width"} for name in [*INPUTS, "states"]},
        dynamo=False,
    )
    fused = optimize_model(
        str(target / "exported.onnx"),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    fused.save_model_to_file(str(target / "fused.onnx"))
    quantize_dynamic(
        target / "fused.onnx",
        target / "int8.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Fused layers hide the type of what they give from the quantizer.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def embed(name: str, job: Job) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(
        str(pathlib.Path(job["paths"]["onnxruntime"]) / "int8.onnx"),
        options,
        providers=["CPUExecutionProvider"],
    )
    names = [one.name for one in session.get_inputs()]
    return padded.measure(
        "onnxruntime",
        name,
        job,
        lambda feed: session.run(["states"], {key: feed[key] for key in names})[0],
    )


if __name__ == "__main__":
    main(
        {
            "embed_short": lambda job: embed("embed_short", job),
            "embed_long": lambda job: embed("embed_long", job),
        },
        convert,
    )
