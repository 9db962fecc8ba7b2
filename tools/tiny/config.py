"""Everything that can be chosen about the tiny model: what the pictures show, their sizes, the network's shape."""

from __future__ import annotations

# ---- the world: what a picture can show --------------------------------------------------------------------

COLORS = {
    "red": (218, 36, 36), "green": (40, 160, 60), "blue": (40, 84, 220), "yellow": (246, 216, 40),
    "orange": (246, 136, 24), "purple": (136, 52, 176), "black": (18, 18, 20), "white": (250, 250, 250),
}
SHAPES = ["circle", "square", "triangle", "star", "ring", "cross", "heart"]
BACKGROUNDS = {
    "white": (246, 246, 246), "light gray": (204, 204, 204), "dark gray": (92, 92, 92),
    "light blue": (180, 214, 240), "light green": (192, 230, 188), "beige": (236, 220, 188),
    "dark blue": (34, 44, 96), "pink": (248, 200, 214),
}
WORDS = """STOP GO EXIT OPEN SHOP CAFE HELLO TAXI BUS ZOO MENU SALE PARK HOTEL BOOK FISH MILK TEA BANK HELP PUSH PULL
UP DOWN YES NO LEFT RIGHT NORTH EAST WEST SOUTH MUSIC PIZZA BREAD WATER LOVE GAME CITY TRAIN MOON SUN TREE HOME
FREE""".split()
CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FONTS = [
    "DejaVuSans-Bold.ttf", "DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono-Bold.ttf",
    "LiberationSans-Bold.ttf", "LiberationSerif-Bold.ttf", "LiberationMono-Bold.ttf",
]
PLACES = [
    ["at the top left", "at the top", "at the top right"],
    ["on the left", "in the center", "on the right"],
    ["at the bottom left", "at the bottom", "at the bottom right"],
]

# Every box lies on a grid of GRID x GRID lines, so that coordinates in thousandths are multiples of 50 and the
# right digits can be seen in the picture.
GRID = 20

# Side of a shape in grid steps of the picture's shorter side. The gaps leave no doubt about the word.
SIDES = {"small": (3, 4), "": (5, 6), "large": (8, 9, 10)}

# ---- pictures and training rows ----------------------------------------------------------------------------

MERGED = 32                    # pixels that one visual token covers (patch of 16, merged 2 x 2)
SIDE_MIN, SIDE_MAX = 96, 320
SIZES = [
    (w, h)
    for w in range(SIDE_MIN, SIDE_MAX + 1, MERGED)
    for h in range(SIDE_MIN, SIDE_MAX + 1, MERGED)
    if 0.5 <= w / h <= 2
]
MIX = {"image": 0.68, "pair": 0.20, "video": 0.12}      # share of the batches
TEXT_SHARE = 0.33                                       # pictures with a sign
SYSTEM_SHARE = 0.08                                     # rows that start with a system message
ROW_BUDGET = 250                                        # tokens of conversation per picture

TRAIN_SEED, GRADE_SEED, EXAMPLE_SEED = 1000, 987_654, 2024

# ---- the network -------------------------------------------------------------------------------------------

TEXT = dict(
    hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
    head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-6, tie_word_embeddings=True,
)
ROPE = dict(rope_type="default", mrope_section=[12, 10, 10], mrope_interleaved=True)
ROPE_THETA = 10000.0
VISION = dict(
    depth=6, hidden_size=128, intermediate_size=384, num_heads=2, in_channels=3, patch_size=16,
    temporal_patch_size=2, spatial_merge_size=2, num_position_embeddings=256, out_hidden_size=256,
    deepstack_visual_indexes=[1, 2, 4], hidden_act="gelu_pytorch_tanh",
)


def vocabulary_size(special: dict[str, int]) -> int:
    """Rows of the embedding: the last special token, rounded up to a multiple of 64."""
    return -(-(max(special.values()) + 1) // 64) * 64


def model_config(special: dict[str, int]):
    """The Qwen3VLConfig, given the ids of the special tokens."""
    from transformers import Qwen3VLConfig          # drawing needs no transformers

    text = dict(
        TEXT, vocab_size=vocabulary_size(special), dtype="bfloat16",
        bos_token_id=special["<|endoftext|>"], eos_token_id=special["<|im_end|>"],
        pad_token_id=special["<|endoftext|>"], rope_parameters=dict(ROPE, rope_theta=ROPE_THETA),
    )
    return Qwen3VLConfig(
        text_config=text, vision_config=dict(VISION), tie_word_embeddings=True,
        image_token_id=special["<|image_pad|>"], video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"], vision_end_token_id=special["<|vision_end|>"],
    )
