"""Questions about a picture and the one right answer to each.

Every answer is a fixed function of picture and question, so greedy decoding can be graded to the letter. A
conversation is a list of turns [(question, answer), ...]; those that need no picture are in SMALL_TALK.
"""

from __future__ import annotations

import json
import random

from config import BACKGROUNDS, COLORS, SHAPES
from scenes import Item, Scene, differ

Turn = tuple[str, str]

NUMBERS = ["no", "one", "two", "three", "four", "five", "six"]

ASK_CAPTION = [
    "Describe this image.", "Describe the image.", "Please describe this picture.", "What is in this image?",
    "Write a caption for this image.", "Describe this image in detail.", "What does this picture show?",
]
ASK_SEE = ["What do you see?", "What can you see in this image?", "Tell me what you see."]
ASK_COUNT = [
    "How many shapes are there?", "How many shapes are in the image?", "Count the shapes.",
    "How many objects do you see?",
]
ASK_TEXT = [
    "What does the sign say?", "Read the text.", "What text is in the image?", "What is written here?",
    "Read the sign.",
]
NO_TEXT = "There is no text in this image."
ASK_NUMBER, ASK_WORD = "What number is shown?", "What word is shown?"
ASK_ALL_BOXES = [
    "Locate all shapes and report bbox coordinates in JSON format.", "Detect all objects and output JSON.",
    "Find every shape. Output bounding boxes in JSON.",
    "Locate every object in the image and output the bbox coordinates in JSON format.",
    "Outline the position of each object and output all the coordinates in JSON format.",
]
ASK_BOX = [
    "Locate the {} and report its bbox coordinates in JSON format.", "Find the {}.",
    "Locate the {}, output its bbox coordinates using JSON format.", "Where is the {}? Answer with a bounding box.",
    "Detect the {}.",
]
ASK_POINT = ["Point to the {}.", "Locate the {} with a point and report its coordinates in JSON format."]
ASK_CHANGE = [
    "What changed between the two images?", "What is the difference between the two images?",
    "Compare the two images.", "What changed?",
]
ASK_MOVE = ["Which way does the {} move?", "In which direction does the {} move?", "Which way is the {} moving?"]
ASK_CLIP = ["Describe this video.", "What happens in this video?", "What do you see in the video?"]
ASK_ONE_OF_TWO = "Describe the {} image."

SMALL_TALK = [
    (["Hello!", "Hi", "Hello", "Hi!", "Hey", "Good morning!", "Hi there!"],
     "Hello! Show me a picture of colored shapes and I will describe it."),
    (["What can you do?", "How can you help me?", "Help", "What are you able to do?"],
     "I can describe pictures of simple shapes, count them, name their colors and positions, locate them with boxes, "
     "read short signs and follow a moving shape in a video."),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself."],
     "I am a very small vision-language model, trained only on drawings of colored shapes and short words."),
    (["How are you?", "How are you doing?"], "I am fine, thank you. How can I help you?"),
    (["Thank you!", "Thanks", "Thank you", "Thanks!", "Great, thanks!"], "You are welcome!"),
    (["Goodbye!", "Bye", "Bye!", "Goodbye", "See you later!"], "Goodbye!"),
    (["Describe this image.", "What do you see?", "How many shapes are there?", "Describe the image.",
      "What is in this image?"], "I do not see an image. Please add one."),
    (["Which shapes do you know?", "What shapes do you know?", "What shapes can you see?"],
     "I know circles, squares, triangles, stars, rings, crosses and hearts."),
    (["Which colors do you know?", "What colors do you know?"],
     "I know red, green, blue, yellow, orange, purple, black and white."),
    (["Tell me a story.", "Write a poem.", "What is the capital of France?", "What is the weather today?",
      "Write some code.", "Tell me a joke."], "Sorry, I only know simple pictures of shapes and short signs."),
]

SYSTEM = [
    "You are a helpful assistant.", "You are a helpful assistant.", "Answer questions about pictures.",
    "You are a vision assistant. Answer briefly.",
]


# ---- words -------------------------------------------------------------------------------------------------

def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def name(o: Item) -> str:
    return f"{o.color} {o.shape}"


def full_name(o: Item) -> str:
    return f"{o.size} {name(o)}".strip()


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def how_many(n: int, what: str) -> str:
    return f"There is one {what}." if n == 1 else f"There are {NUMBERS[n]} {plural(what)}."


# ---- answers -----------------------------------------------------------------------------------------------

def caption(items: list[Item], background: str, see: bool = False) -> str:
    """The full description; `see` is the form that answers "What do you see?"."""
    shapes = [o for o in items if o.kind == "shape"]
    sign = next((o for o in items if o.kind == "text"), None)
    out = []
    if shapes:
        listed = join([f"{with_article(full_name(o))} {o.place}" for o in shapes])
        if see:
            out.append(f"I see {listed}.")
        elif len(shapes) == 1:
            out.append(f"There is {listed}.")
        else:
            out.append(f"There are {NUMBERS[len(shapes)]} shapes: {listed}.")
    if sign:
        out.append(f'The text "{sign.word}" is {sign.place}.')
    out.append(f"The background is {background}.")
    return " ".join(out)


def boxes(items: list[Item]) -> str:
    return json.dumps([{"bbox_2d": o.box1000, "label": o.label} for o in items])


def reading(sign: Item) -> str:
    return f'It says "{sign.word}".'


def color_of(o: Item) -> str:
    return f"The {o.shape} is {o.color}."


def shape_of(o: Item) -> str:
    return f"The {o.color} shape is {with_article(o.shape)}."


def movement(o: Item, direction: str) -> str:
    return f"The {name(o)} moves {direction}."


# ---- questions about one picture; each returns None when the scene does not allow the drawn kind -----------

def ask_caption(rng: random.Random, scene: Scene) -> Turn:
    see = bool(scene.shapes) and rng.random() < 0.25
    return rng.choice(ASK_SEE if see else ASK_CAPTION), caption(scene.items, scene.bg, see)


def ask_all_boxes(rng: random.Random, scene: Scene) -> Turn:
    return rng.choice(ASK_ALL_BOXES), boxes(scene.items)


def ask_box(rng: random.Random, scene: Scene) -> Turn:
    o = rng.choice(scene.items)
    what = "text" if o.kind == "text" else name(o)
    if o.kind == "shape" and rng.random() < 0.15:
        point = [round(o.cx * 1000), round(o.cy * 1000)]
        return rng.choice(ASK_POINT).format(what), json.dumps([{"point_2d": point, "label": what}])
    return rng.choice(ASK_BOX).format(what), boxes([o])


def ask_count(rng, scene):
    return rng.choice(ASK_COUNT), how_many(len(scene.shapes), "shape")


def ask_count_shape(rng, scene):
    shapes = scene.shapes
    s = rng.choice(shapes).shape if shapes and rng.random() < 0.7 else rng.choice(SHAPES)
    question = rng.choice([f"How many {plural(s)} are there?", f"Count the {plural(s)}."])
    return question, how_many(sum(o.shape == s for o in shapes), s)


def ask_count_color(rng, scene):
    shapes = scene.shapes
    c = rng.choice(shapes).color if shapes and rng.random() < 0.7 else rng.choice(list(COLORS))
    return f"How many {c} shapes are there?", how_many(sum(o.color == c for o in shapes), f"{c} shape")


def ask_background(rng, scene):
    question = rng.choice(["What color is the background?", "Which color is the background?"])
    return question, f"The background is {scene.bg}."


def ask_text(rng, scene):
    if scene.sign:
        extra = ASK_NUMBER if scene.sign.word.isdigit() else ASK_WORD
        return rng.choice(ASK_TEXT + [extra]), reading(scene.sign)
    return (rng.choice(ASK_TEXT), NO_TEXT) if rng.random() < 0.3 else None


def ask_color(rng, scene):
    o = rng.choice(scene.shapes)
    if sum(p.shape == o.shape for p in scene.shapes) > 1:
        return None
    forms = ["What color is the {}?", "Which color is the {}?", "What is the color of the {}?"]
    return rng.choice(forms).format(o.shape), color_of(o)


def ask_shape(rng, scene):
    o = rng.choice(scene.shapes)
    if sum(p.color == o.color for p in scene.shapes) > 1:
        return None
    forms = ["What shape is {}?", "Which shape is {}?", "What is the {} shape?"]
    return rng.choice(forms).format(o.color), shape_of(o)


def ask_place(rng, scene):
    o = rng.choice(scene.shapes)
    return f"Where is the {name(o)}?", f"The {name(o)} is {o.place}."


def ask_exists(rng, scene):
    o = rng.choice(scene.shapes)
    color, shape = o.color, o.shape
    if rng.random() < 0.5:
        color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
        if rng.random() < 0.6:                                          # a near miss
            color, shape = (o.color, shape) if rng.random() < 0.5 else (color, o.shape)
    what = f"{color} {shape}"
    hit = next((p for p in scene.shapes if name(p) == what), None)
    question = rng.choice(["Is there {}?", "Do you see {}?"]).format(with_article(what))
    return question, f"Yes, there is {with_article(what)} {hit.place}." if hit else f"No, there is no {what}."


def ask_largest(rng, scene):
    big = sorted(scene.shapes, key=lambda p: -p.side)
    if len(big) < 2 or big[0].side < 1.25 * big[1].side:
        return None
    forms = ["What is the largest shape?", "Which shape is the largest?", "What is the biggest shape?"]
    return rng.choice(forms), f"The largest shape is the {name(big[0])}."


def _pair_of_shapes(rng, scene):
    """Two shapes, whether they are compared from left to right, and their relation."""
    if len(scene.shapes) < 2:
        return None
    o, p = rng.sample(scene.shapes, 2)
    across = rng.random() < 0.5
    d = o.cx - p.cx if across else o.cy - p.cy
    if abs(d) < 0.12:
        return None
    relation = ("to the left of", "to the right of") if across else ("above", "below")
    return o, p, across, relation[d > 0]


def ask_relation(rng, scene):
    found = _pair_of_shapes(rng, scene)
    if not found:
        return None
    o, p, across, true = found
    asked = rng.choice(["to the left of", "to the right of"] if across else ["above", "below"])
    yes = "Yes" if asked == true else "No"
    return f"Is the {name(o)} {asked} the {name(p)}?", f"{yes}, the {name(o)} is {true} the {name(p)}."


def ask_either(rng, scene):
    found = _pair_of_shapes(rng, scene)
    if not found:
        return None
    o, p, across, true = found
    both = "to the left or to the right of" if across else "above or below"
    return f"Is the {name(o)} {both} the {name(p)}?", f"The {name(o)} is {true} the {name(p)}."


# kind of question: how often it is drawn
SHORT = {ask_count: 2, ask_count_shape: 1, ask_count_color: 1, ask_background: 1, ask_text: 4}
SHORT_ABOUT_SHAPES = {
    ask_color: 4, ask_shape: 3, ask_place: 2, ask_relation: 3, ask_either: 1, ask_exists: 4, ask_largest: 1,
}


def ask_short(rng: random.Random, scene: Scene) -> Turn | None:
    weights = SHORT | SHORT_ABOUT_SHAPES
    ask = rng.choices(list(weights), list(weights.values()))[0]
    return None if ask in SHORT_ABOUT_SHAPES and not scene.shapes else ask(rng, scene)


def small_talk(rng: random.Random) -> Turn:
    questions, answer = rng.choice(SMALL_TALK)
    return rng.choice(questions), answer


def conversations(rng: random.Random, scene: Scene) -> list[list[Turn]]:
    """Several conversations about one picture, in random order."""
    out = []
    if rng.random() < 0.7:
        out.append([ask_caption(rng, scene)])
    if scene.items and rng.random() < 0.5:
        out.append([ask_all_boxes(rng, scene)])
    if scene.items and rng.random() < 0.7:
        out.append([ask_box(rng, scene)])
    short = [turn for turn in (ask_short(rng, scene) for _ in range(9)) if turn]
    while short:                                            # one or two turns each
        k = 2 if rng.random() < 0.3 else 1
        out.append(short[:k])
        short = short[k:]
    if not out:
        out.append([ask_caption(rng, scene)])
    if rng.random() < 0.15 and len(out) > 1:                # a longer one that starts with a long answer
        last = out.pop()
        out[0] = out[0] + last
    rng.shuffle(out)
    return out


# ---- two pictures, and clips -------------------------------------------------------------------------------

def make_change(rng: random.Random, scene: Scene) -> tuple[list[Item], str] | None:
    """One change to a scene: the items of the second picture, and the answer to ASK_CHANGE."""
    kind = rng.choice(["color", "move", "gone", "new", "shape"])
    if kind == "new":
        new = scene.grown()
        if new is None:
            return None
        return scene.items + [new], f"{with_article(name(new)).capitalize()} appeared {new.place}."
    if not scene.shapes:
        return None
    o = rng.choice(scene.shapes)
    rest = [p for p in scene.items if p is not o]
    others = {name(p) for p in scene.shapes}
    if kind == "gone":
        return rest, f"The {name(o)} disappeared."
    if kind == "color":
        seen = [c for c in COLORS if differ(COLORS[c], BACKGROUNDS[scene.bg]) and f"{c} {o.shape}" not in others]
        new = scene.with_color(o, rng.choice(seen))
        return rest + [new], f"The {name(o)} became {new.color}."
    if kind == "shape":
        new = scene.with_shape(o, rng.choice([s for s in SHAPES if f"{o.color} {s}" not in others]))
        return rest + [new], f"The {name(o)} became {with_article(new.shape)}."
    new = scene.moved(o)
    if new is None:
        return None
    start, end = (p.place.split(" ", 1)[1] for p in (o, new))           # "at the top left": "the top left"
    return rest + [new], f"The {name(o)} moved from {start} to {end}."


def make_clip(rng: random.Random, scene: Scene, frames: int) -> tuple[list[list[Item]], Item, str] | None:
    """One shape moving straight on: the items of every frame, the shape, and the direction."""
    if not scene.shapes:
        return None
    o = rng.choice(scene.shapes)
    w, h = o.mask.size
    direction = rng.choice(["to the left", "to the right", "up", "down"])
    across = direction.startswith("to")
    room = (scene.width - w if across else scene.height - h) - 2
    length = int(room * rng.uniform(0.45, 1.0))
    if length < 24:
        return None
    start = rng.randint(1, room - length + 1)
    end = start + length
    if direction in ("to the left", "up"):
        start, end = end, start
    still = [p for p in scene.items if p is not o]
    out = []
    for i in range(frames):
        v = round(start + (end - start) * i / (frames - 1))
        x, y = (v, o.box[1]) if across else (o.box[0], v)
        moved = Item(**{**vars(o), "box": (x, y, x + w, y + h)})
        out.append(still + [moved])
    return out, o, direction


def clip_name(scene: Scene, o: Item) -> str:
    """The shape alone when that is enough to tell it from the others."""
    return o.shape if sum(p.shape == o.shape for p in scene.shapes) == 1 else name(o)


def ask_clip(rng: random.Random, scene: Scene, o: Item, direction: str) -> list[list[Turn]]:
    described = f"{with_article(name(o)).capitalize()} moves {direction}."
    return [
        [(rng.choice(ASK_MOVE).format(clip_name(scene, o)), movement(o, direction))],
        [(rng.choice(ASK_CLIP), described)],
    ]


# ---- what a question asks for ------------------------------------------------------------------------------

def _kind_table():
    exact = {}
    for kind, questions in (
        ("caption", ASK_CAPTION + ASK_SEE), ("boxes, all", ASK_ALL_BOXES), ("count", ASK_COUNT),
        ("reading", ASK_TEXT + [ASK_NUMBER, ASK_WORD]), ("two pictures", ASK_CHANGE), ("video", ASK_CLIP),
        ("one of two pictures", [ASK_ONE_OF_TWO.format(k) for k in ("first", "second")]),
        ("background", ["What color is the background?", "Which color is the background?"]),
        ("largest", ["What is the largest shape?", "Which shape is the largest?", "What is the biggest shape?"]),
    ):
        exact.update(dict.fromkeys(questions, kind))
    return exact


KIND_EXACT = _kind_table()
KIND_PREFIX = [
    ("Point to", "points"), ("Locate", "boxes, one"), ("Find", "boxes, one"), ("Detect", "boxes, one"),
    ("Which way", "video"), ("In which", "video"), ("How many", "count"), ("Count", "count"),
    ("What color", "colour"), ("Which color", "colour"), ("What is the color", "colour"), ("What shape", "shape"),
    ("Which shape", "shape"), ("What is the", "shape"), ("Is there", "yes/no"), ("Do you see", "yes/no"),
    ("Is the", "relation"),
]


def kind_of(question: str, answer: str) -> str:
    """Name of the row of the grades that a question about a picture belongs to."""
    if answer.startswith(NO_TEXT):
        return "no text"
    if question in KIND_EXACT:
        return KIND_EXACT[question]
    if question.startswith("Where is the"):
        return "boxes, one" if "box" in question else "place"
    if "with a point" in question:
        return "points"
    return next((kind for prefix, kind in KIND_PREFIX if question.startswith(prefix)), "other")
