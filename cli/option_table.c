/* option_table.c - every command and every option with its help text. Parsing and help read this; so does the test that
 * compares the manual page with it. */
#include "option_table.h"

#define AT(field) offsetof(struct qvl_options, field)
#define RUN (1u << QVL_CMD_RUN)
#define VERIFY (1u << QVL_CMD_VERIFY)
#define TOKENIZE (1u << QVL_CMD_TOKENIZE)
#define INSPECT (1u << QVL_CMD_INSPECT)
#define BENCH (1u << QVL_CMD_BENCH)
#define EXPORT (1u << QVL_CMD_EXPORT)
#define PACK (1u << QVL_CMD_PACK)
#define PULL (1u << QVL_CMD_PULL)
#define ALL (RUN | VERIFY | TOKENIZE | INSPECT | BENCH | EXPORT | PACK | PULL)
#define U32_MAX 4294967295.0

const struct qvl_opt_row qvl_opt_rows[] = {
    /* the request */
    {.name = "prompt", .letter = 'p', .kind = QVL_OPT_TEXT, .commands = RUN, .offset = AT(prompt), .arg = "TEXT",
     .help = "the question; \"-\" reads it from standard input, which also happens without -p when standard input is not a "
             "terminal. With pictures: they come first, then the text"},
    {.name = "image", .kind = QVL_OPT_LIST, .commands = RUN, .offset = AT(images), .arg = "FILE",
     .help = "a picture; may be repeated; \"-\" reads it from standard input"},
    {.name = "messages", .kind = QVL_OPT_TEXT, .commands = RUN, .offset = AT(messages), .arg = "FILE",
     .help = "a whole conversation: JSON list of messages in the OpenAI form, text and pictures in any order; paths in it are "
             "relative to the file. -p and --image, when given too, become one more message of the user. \"-\": standard input"},
    {.name = "system", .aliases = "sys system-prompt", .kind = QVL_OPT_TEXT, .commands = RUN, .offset = AT(system), .arg = "TEXT",
     .help = "the system message; replaces the one in the --messages file"},
    {.name = "min-pixels", .kind = QVL_OPT_PIXELS, .commands = RUN, .offset = AT(min_pixels), .arg = "SIZE",
     .help = "smaller pictures are enlarged to this many pixels: 65536, 512k, 2M or 1024x768 (k and M are decimal)"},
    {.name = "max-pixels", .kind = QVL_OPT_PIXELS, .commands = RUN, .offset = AT(max_pixels), .arg = "SIZE",
     .help = "larger pictures are reduced to this many pixels, also when --min-pixels says otherwise; fewer pixels are fewer tokens "
             "and a faster answer"},
    {.name = "alpha", .kind = QVL_OPT_CHOICE, .commands = RUN, .offset = AT(alpha), .arg = "HOW", .choices = "white|drop",
     .help = "transparent pictures: put them on white (default), or drop the transparency"},
    {.name = "add-vision-id", .kind = QVL_OPT_FLAG, .commands = RUN | TOKENIZE, .offset = AT(add_vision_id),
     .help = "write \"Picture 1: \", \"Picture 2: \" ... in front of the pictures"},
    {.name = "decode", .kind = QVL_OPT_FLAG, .commands = TOKENIZE, .offset = AT(decode),
     .help = "the other way: a JSON array, or numbers separated by blanks, becomes text"},
    {.name = "skip-special", .kind = QVL_OPT_FLAG, .commands = TOKENIZE, .offset = AT(skip_special),
     .help = "with --decode: leave out special tokens"},
    {.name = "plain", .kind = QVL_OPT_FLAG, .commands = TOKENIZE, .offset = AT(plain),
     .help = "treat the text as typed by a user: <|im_end|> in it stays ordinary text"},
    {.name = "template", .kind = QVL_OPT_TEXT, .commands = TOKENIZE, .offset = AT(template_file), .arg = "FILE",
     .help = "write the exact prompt that the chat template makes of these messages (JSON; \"-\": standard input)"},
    {.name = "tools", .kind = QVL_OPT_TEXT, .commands = TOKENIZE, .offset = AT(tools), .arg = "FILE",
     .help = "with --template: JSON list of tool definitions"},
    {.name = "no-generation-prompt", .kind = QVL_OPT_FLAG, .commands = TOKENIZE, .offset = AT(no_generation_prompt),
     .help = "with --template: end behind the last message"},
    {.name = "output", .letter = 'o', .kind = QVL_OPT_TEXT, .commands = PACK, .offset = AT(output), .arg = "DIR",
     .help = "the folder to make"},
    {.name = "precision", .kind = QVL_OPT_CHOICE, .commands = PACK, .offset = AT(precision), .arg = "KIND", .choices = "q4|q8",
     .help = "bits of the text decoder's weights, in groups of 32 with a scale: 4 (default) or 8"},
    {.name = "head", .kind = QVL_OPT_CHOICE, .commands = PACK, .offset = AT(head), .arg = "KIND", .choices = "q4|q8|bf16",
     .help = "of the matrix in front of the logits; bf16: kept as the model has it"},
    {.name = "calibrate", .kind = QVL_OPT_TEXT, .commands = PACK, .offset = AT(calibrate), .arg = "FILE",
     .help = "requests, one a line (JSON: messages as for run, or {\"text\": \"...\"}; pictures relative to the file), that the unpacked "
             "model reads first, so that 4-bit scales are chosen for what matters to it"},
    {.name = "force", .letter = 'f', .kind = QVL_OPT_FLAG, .commands = PACK, .offset = AT(force),
     .help = "also into a folder that is there and not empty, unless it holds another model. Files of other names stay"},
    {.name = "include", .kind = QVL_OPT_LIST, .commands = PULL, .offset = AT(include), .arg = "PATTERN",
     .help = "exactly the files that match (\"*.json\", \"onnx/\"); may be repeated; default: what a model needs"},
    {.name = "exclude", .kind = QVL_OPT_LIST, .commands = PULL, .offset = AT(exclude), .arg = "PATTERN",
     .help = "leave out the files that match; may be repeated"},
    {.name = "jobs", .letter = 'j', .kind = QVL_OPT_COUNT, .commands = PULL, .offset = AT(jobs), .arg = "N", .min = 1, .max = 16,
     .help = "files at a time (default 4)"},
    {.name = "force", .kind = QVL_OPT_FLAG, .commands = PULL, .offset = AT(force),
     .help = "download also what is there already"},
    {.name = "shape", .kind = QVL_OPT_TEXT, .commands = BENCH, .offset = AT(shape), .arg = "NAME",
     .help = "random weights in the proportions of a published model: 2b, 4b (default), 8b, 32b"},
    {.name = "image", .kind = QVL_OPT_SIZES, .commands = BENCH, .offset = AT(bench_images), .arg = "WxH[,...]", .min = 1, .max = 65536,
     .help = "sizes of pictures to encode (default 400x300,1024x768)"},
    {.name = "prompt", .aliases = "n-prompt", .kind = QVL_OPT_COUNTS, .commands = BENCH, .offset = AT(bench_prompts), .arg = "N[,...]",
     .min = 1, .max = 262144, .help = "lengths of prompts in tokens (default 128,512)"},
    {.name = "prompt-depth", .kind = QVL_OPT_COUNTS, .commands = BENCH, .offset = AT(bench_prompt_depths), .arg = "N[,...]",
     .max = 262144, .help = "tokens in the cache before a prompt (default 0,3584); behind others only the last length is measured"},
    {.name = "depth", .kind = QVL_OPT_COUNTS, .commands = BENCH, .offset = AT(bench_depths), .arg = "N[,...]", .max = 262144,
     .help = "tokens in the cache when an answer is generated (default 128,1k,8k)"},
    {.name = "decode", .aliases = "n-gen", .letter = 'n', .kind = QVL_OPT_COUNT, .commands = BENCH, .offset = AT(bench_decode),
     .arg = "N", .min = 1, .max = 1024, .help = "tokens that are generated at each depth (default 16)"},
    {.name = "gguf", .kind = QVL_OPT_FLAG, .commands = EXPORT, .offset = AT(gguf),
     .help = "write GGUF files, which llama.cpp reads, too (the only format so far, and needed)"},
    {.name = "output", .letter = 'o', .kind = QVL_OPT_TEXT, .commands = EXPORT, .offset = AT(output), .arg = "PATH",
     .help = "a folder (one that exists, or PATH/): NAME-TYPE.gguf and mmproj-NAME-TYPE.gguf in it; else the beginning of the path, "
             "DIR/NAME; or the text file itself when it ends in .gguf"},
    {.name = "type", .aliases = "outtype", .kind = QVL_OPT_TEXT, .commands = EXPORT, .offset = AT(type), .arg = "TYPE",
     .help = "of the text decoder's matrices: f32, f16, bf16, q8_0, q6_k, q5_1, q5_0, q4_k, q4_1, q4_0; auto (default): each as the model has "
             "it; where GGUF has no such type, q4_0 if that keeps its codes, else f16"},
    {.name = "mmproj-type", .kind = QVL_OPT_TEXT, .commands = EXPORT, .offset = AT(mmproj_type), .arg = "TYPE",
     .help = "of the vision encoder's matrices: f16 (default), bf16, f32, q8_0, auto"},
    {.name = "force", .letter = 'f', .kind = QVL_OPT_FLAG, .commands = EXPORT, .offset = AT(force),
     .help = "replace files that exist"},

    /* sampling */
    {.name = "max-tokens", .aliases = "max-new-tokens max-length n-predict predict", .letter = 'n', .kind = QVL_OPT_COUNT,
     .commands = RUN, .offset = AT(max_tokens), .arg = "N", .max = U32_MAX, .group = QVL_GROUP_SAMPLING,
     .help = "longest answer in tokens; 0 (default): until the model ends it or the context is full"},
    {.name = "greedy", .kind = QVL_OPT_FLAG, .commands = RUN, .offset = AT(greedy), .group = QVL_GROUP_SAMPLING,
     .help = "always take the most likely token; the five options below are then without effect"},
    {.name = "temperature", .aliases = "temp", .kind = QVL_OPT_REAL, .commands = RUN, .offset = AT(temperature), .arg = "X",
     .max = 100, .mark = QVL_GIVEN_TEMPERATURE, .group = QVL_GROUP_SAMPLING,
     .help = "spread of the choice; 0 is --greedy. This option and the next three switch sampling on; what is not given comes "
             "from the model's generation_config.json"},
    {.name = "top-p", .kind = QVL_OPT_REAL, .commands = RUN, .offset = AT(top_p), .arg = "X", .max = 1, .mark = QVL_GIVEN_TOP_P,
     .group = QVL_GROUP_SAMPLING, .help = "choose among the likeliest tokens that together reach this probability; 1 is off"},
    {.name = "top-k", .kind = QVL_OPT_COUNT, .commands = RUN, .offset = AT(top_k), .arg = "N", .max = 2147483647,
     .mark = QVL_GIVEN_TOP_K, .group = QVL_GROUP_SAMPLING, .help = "choose among the N likeliest tokens; 0 is off"},
    {.name = "min-p", .kind = QVL_OPT_REAL, .commands = RUN, .offset = AT(min_p), .arg = "X", .max = 1, .mark = QVL_GIVEN_MIN_P,
     .group = QVL_GROUP_SAMPLING, .help = "leave out tokens less likely than this share of the likeliest; 0 is off"},
    {.name = "seed", .letter = 's', .kind = QVL_OPT_COUNT, .commands = RUN, .offset = AT(seed), .arg = "N",
     .max = 18446744073709551615.0, .mark = QVL_GIVEN_SEED, .group = QVL_GROUP_SAMPLING,
     .help = "the same seed gives the same answer; without it every run has its own (--verbose and --json tell it)"},
    {.name = "repetition-penalty", .aliases = "repeat-penalty", .kind = QVL_OPT_REAL, .commands = RUN,
     .offset = AT(repetition_penalty), .arg = "X", .min = 0.01, .max = 100, .mark = QVL_GIVEN_REPETITION,
     .group = QVL_GROUP_SAMPLING, .help = "above 1 makes tokens of prompt and answer less likely to come again; 1 is off"},
    {.name = "presence-penalty", .kind = QVL_OPT_REAL, .commands = RUN, .offset = AT(presence_penalty), .arg = "X", .min = -100,
     .max = 100, .group = QVL_GROUP_SAMPLING, .help = "taken from the logit of tokens that the answer already has; 0 is off"},
    {.name = "frequency-penalty", .kind = QVL_OPT_REAL, .commands = RUN, .offset = AT(frequency_penalty), .arg = "X", .min = -100,
     .max = 100, .group = QVL_GROUP_SAMPLING, .help = "the same for each time the token occurred; 0 is off"},
    {.name = "stop", .kind = QVL_OPT_LIST, .commands = RUN, .offset = AT(stop), .arg = "TEXT", .group = QVL_GROUP_SAMPLING,
     .help = "the answer ends in front of this text; may be repeated"},

    /* model and machine */
    {.name = "context", .aliases = "ctx-size", .letter = 'c', .kind = QVL_OPT_COUNT, .commands = RUN, .offset = AT(context),
     .arg = "N", .max = U32_MAX, .env = "QVL_CONTEXT", .group = QVL_GROUP_MACHINE,
     .help = "tokens the conversation may have, for example 8192 or 8k; 0 (default): up to 32768, memory taken as it grows"},
    {.name = "threads", .letter = 't', .kind = QVL_OPT_COUNT, .commands = RUN | VERIFY | BENCH | PACK, .offset = AT(threads), .arg = "N",
     .max = 1024, .env = "QVL_THREADS", .group = QVL_GROUP_MACHINE,
     .help = "threads; 0 (default): as many as this process may use. The answer does not depend on it"},
    {.name = "threads-vision", .kind = QVL_OPT_COUNT, .commands = RUN | VERIFY | BENCH, .offset = AT(threads_vision), .arg = "N",
     .max = 1024, .group = QVL_GROUP_MACHINE, .help = "threads for the vision encoder alone; 0 (default): as --threads"},
    {.name = "precision", .kind = QVL_OPT_CHOICE, .commands = RUN | VERIFY | BENCH, .offset = AT(precision), .arg = "KIND",
     .choices = "f32|bf16|q8|q4|auto", .env = "QVL_PRECISION", .mark = QVL_GIVEN_PRECISION, .group = QVL_GROUP_MACHINE,
     .help = "arithmetic: f32 is exact, bf16 faster on large models; q8 and q4 pack the text decoder's weights to 8 and 4 bits "
             "once, for speed and memory, and keep them in the cache folder; auto: f32 for models up to 512 MB, else "
             "vision bf16 and text q4. "
             "verify uses f32 unless told otherwise"},
    {.name = "vision-precision", .kind = QVL_OPT_CHOICE, .commands = RUN | VERIFY | BENCH, .offset = AT(vision_precision), .arg = "KIND",
     .choices = "f32|bf16|q8|auto", .group = QVL_GROUP_MACHINE,
     .help = "the same for the vision encoder alone; q8 is a fast mode, never chosen by itself: its blocks in 8-bit weights, packed at "
             "every start"},
    {.name = "kv", .kind = QVL_OPT_CHOICE, .commands = RUN | VERIFY | BENCH, .offset = AT(kv), .arg = "TYPE",
     .choices = "f32|bf16|int8|auto", .group = QVL_GROUP_MACHINE,
     .help = "how the cache of earlier tokens is kept: int8 takes about half the memory of bf16 and a quarter of f32 and makes "
             "answers behind long texts faster, at a small loss of accuracy; auto: int8 with q4 weights, else that of the text's arithmetic"},
    {.name = "mmproj", .kind = QVL_OPT_TEXT, .commands = RUN | VERIFY | EXPORT | PACK, .offset = AT(mmproj), .arg = "FILE",
     .group = QVL_GROUP_MACHINE, .help = "vision half of a GGUF model; default: the mmproj-*.gguf beside it"},
    {.name = "model", .aliases = "pytorch-model", .kind = QVL_OPT_TEXT, .commands = RUN | VERIFY | TOKENIZE | EXPORT | PACK, .offset = AT(model),
     .arg = "PATH", .group = QVL_GROUP_MACHINE, .help = "another way to say MODEL"},
    {.name = "revision", .kind = QVL_OPT_TEXT, .commands = ALL, .offset = AT(revision), .arg = "REV", .group = QVL_GROUP_MACHINE,
     .help = "branch, tag or commit of a model that is named, as in NAME@REV; default main"},
    {.name = "lora", .kind = QVL_OPT_LIST, .commands = RUN | VERIFY | BENCH, .offset = AT(lora), .arg = "DIR[:SCALE]",
     .group = QVL_GROUP_MACHINE,
     .help = "a low-rank adapter of the text decoder (adapter_config.json, adapter_model.safetensors), added while computing, at any "
             "precision; SCALE (default 1) weighs it; may be repeated"},
    {.name = "text", .aliases = "onnx-text", .kind = QVL_OPT_TEXT, .commands = RUN | VERIFY | EXPORT | PACK, .offset = AT(text), .arg = "PATH",
     .group = QVL_GROUP_MACHINE,
     .help = "take the text decoder from elsewhere: a GGUF file, an ONNX Runtime GenAI folder (genai_config.json, model.onnx), or a "
             "Hugging Face folder. Tokenizer, configuration and vision stay those of MODEL"},
    {.name = "vision", .kind = QVL_OPT_TEXT, .commands = RUN | VERIFY | EXPORT | PACK, .offset = AT(vision), .arg = "PATH",
     .group = QVL_GROUP_MACHINE,
     .help = "take the vision encoder from elsewhere: a Hugging Face folder, or the vision half of a GGUF model (mmproj). Text stays "
             "MODEL's"},
    {.name = "cpu", .kind = QVL_OPT_TEXT, .commands = RUN | VERIFY | BENCH | PACK, .offset = AT(cpu), .arg = "LEVEL", .env = "QVL_CPU",
     .group = QVL_GROUP_MACHINE, .help = "instruction sets: ref, avx2, avx_vnni, avx512, avx512_vnni, avx512_bf16, neon_dotprod, neon_i8mm; default: the best this machine has"},
    {.name = "no-cache", .kind = QVL_OPT_FLAG, .commands = RUN | VERIFY, .offset = AT(no_cache), .group = QVL_GROUP_MACHINE,
     .help = "pack q8 and q4 weights in memory at every start instead of keeping them in $XDG_CACHE_HOME/qvl (~/.cache/qvl)"},
    {.name = "image-cache", .kind = QVL_OPT_TEXT, .commands = RUN, .offset = AT(image_cache), .arg = "DIR", .group = QVL_GROUP_MACHINE,
     .help = "keep encoded pictures in this folder (at most 2 GiB), so that the same picture is not encoded again"},
    {.name = "no-draft", .kind = QVL_OPT_FLAG, .commands = RUN, .offset = AT(no_draft), .group = QVL_GROUP_MACHINE,
     .help = "compute one token at a time; otherwise text that repeats itself is confirmed several tokens at once, with the same "
             "answer"},
    {.name = "no-memory-check", .kind = QVL_OPT_FLAG, .commands = RUN | VERIFY, .offset = AT(no_memory_check),
     .group = QVL_GROUP_MACHINE, .help = "try even when memory does not seem to suffice"},

    /* output */
    {.name = "trace", .kind = QVL_OPT_TEXT, .commands = RUN, .offset = AT(trace), .arg = "FILE", .group = QVL_GROUP_OUTPUT,
     .help = "write every intermediate result to this safetensors file"},
    {.name = "format", .kind = QVL_OPT_CHOICE, .commands = BENCH, .offset = AT(format), .arg = "KIND",
     .choices = "table|json|csv|md", .group = QVL_GROUP_OUTPUT, .help = "how the rows are written (default table)"},
    {.name = "json", .kind = QVL_OPT_FLAG, .commands = RUN | VERIFY | INSPECT | BENCH | EXPORT | PACK | PULL, .offset = AT(json),
     .group = QVL_GROUP_OUTPUT, .help = "one JSON object on standard output instead of text"},
    {.name = "quiet", .letter = 'q', .kind = QVL_OPT_FLAG, .commands = RUN | VERIFY | BENCH | EXPORT | PACK | PULL, .offset = AT(quiet),
     .group = QVL_GROUP_OUTPUT, .help = "no progress and no closing line; verify: only what fails, and the summary"},
    {.name = "verbose", .letter = 'v', .kind = QVL_OPT_FLAG, .commands = RUN | VERIFY | BENCH, .offset = AT(verbose),
     .group = QVL_GROUP_OUTPUT, .help = "say what was chosen: precision, cpu level, threads, context, sampling"},
    {.name = "help", .letter = 'h', .kind = QVL_OPT_FLAG, .commands = ALL, .offset = AT(help), .group = QVL_GROUP_OUTPUT,
     .help = "this text"},
};
const size_t qvl_opt_row_count = sizeof qvl_opt_rows / sizeof *qvl_opt_rows;

const struct qvl_command_row qvl_command_rows[QVL_CMD_COUNT] = {
    [QVL_CMD_RUN] =
        {.name = "run",
         .usage = "qvl run [MODEL] [-p TEXT] [--image FILE]... [options]\n"
                  "qvl run [MODEL] --messages FILE [options]\n"
                  "qvl run [MODEL]                                a chat, on a terminal",
         .brief = "one answer about text and pictures; without a prompt on a terminal: a chat",
         .text = "MODEL is a Hugging Face folder (config.json, *.safetensors, tokenizer.json), a .gguf file, or the name of a model "
                 "that was downloaded (ORG/NAME, ORG/NAME@REV, ORG/NAME:QUANT; see qvl pull); it may be left out when QVL_MODEL is set. "
                 "The answer alone goes to standard output, everything else to standard error.\n"
                 "In a chat, /help lists the commands; a picture is added with /image FILE or by dropping it into the window. "
                 "Ctrl-C stops the answer, a second one the program; Ctrl-D leaves the chat.",
         .examples = "qvl run MODEL -p \"What is in this picture?\" --image photo.jpg\n"
                     "qvl run MODEL -p \"What changed?\" --image before.png --image after.png\n"
                     "git diff | qvl run MODEL --system \"Summarise for a reviewer.\"\n"
                     "curl -s $URL | qvl run MODEL --image - -p \"Describe this.\"\n"
                     "qvl run ./pytorch --text ./cpu-text --image photo.jpg -p \"Describe this.\"\n"
                     "qvl run text-Q4_0.gguf --vision ./pytorch --image a.jpg -p \"Describe this.\"\n"
                     "qvl run MODEL --messages talk.json --greedy --json\n"
                     "qvl run MODEL --image page.png -p \"Read the text.\" --max-pixels 2M -n 500\n",
         .min_args = 1,
         .max_args = 1},
    [QVL_CMD_VERIFY] =
        {.name = "verify",
         .usage = "qvl verify [MODEL] GOLDEN... [options]",
         .brief = "compare this program with the reference, stage by stage",
         .text = "A golden is a safetensors file with the intermediate results of one request (docs/traces.md). The request is run "
                 "again; for each tensor the largest absolute error, the relative L2 error, the lowest cosine of a row, the limit "
                 "and PASS, FAIL or \"-\" (reported only) are printed, then how far the generated tokens agree. The exit status "
                 "is 0 only when every golden passes.",
         .examples = "qvl verify models/tiny tests/golden/tiny/photo.safetensors\n"
                     "qvl verify MODEL goldens/*.safetensors --quiet\n"
                     "qvl verify MODEL golden.safetensors --precision bf16 --json\n",
         .min_args = 2,
         .max_args = (size_t)-1},
    [QVL_CMD_TOKENIZE] =
        {.name = "tokenize",
         .usage = "qvl tokenize [MODEL] [--plain] < TEXT\n"
                  "qvl tokenize [MODEL] --decode [--skip-special] < IDS\n"
                  "qvl tokenize [MODEL] --template FILE [options]",
         .brief = "text to token ids, ids to text, messages to the exact prompt",
         .text = "Text on standard input becomes a JSON array of ids on standard output; the text is taken as it is, with its last "
                 "line feed. --decode and --template write exactly the bytes, without a line feed of their own.",
         .examples = "printf 'Hello' | qvl tokenize MODEL\n"
                     "echo '[9707, 1879]' | qvl tokenize MODEL --decode\n"
                     "qvl tokenize MODEL --template talk.json | qvl tokenize MODEL\n",
         .min_args = 1,
         .max_args = 1},
    [QVL_CMD_INSPECT] =
        {.name = "inspect",
         .usage = "qvl inspect PATH [--json]",
         .brief = "what is in a model folder or a tensor file, and the memory it needs",
         .text = "PATH is a model folder, a .gguf file (a half or a shard, too), an .onnx file or its folder, or a safetensors file (a trace or a "
                 "golden, too). Weights are not loaded.",
         .examples = "qvl inspect models/tiny\n"
                     "qvl inspect out.safetensors --json\n",
         .min_args = 1,
         .max_args = 1},
    [QVL_CMD_BENCH] =
        {.name = "bench",
         .usage = "qvl bench [MODEL | --shape NAME] [options]",
         .brief = "measure vision, prompt and decoding on this machine",
         .text = "Rows come with their share of what the machine itself can do (memory reading, multiplications), measured in the "
                 "same run. Without MODEL the weights are random, in the proportions of a published model.",
         .examples = "qvl bench MODEL\n"
                     "qvl bench --shape 4b --precision bf16 -t 8\n"
                     "qvl bench MODEL --prompt 2048 --decode 64 --image 1024x768 --format csv\n",
         .min_args = 0,
         .max_args = 1},
    [QVL_CMD_EXPORT] =
        {.name = "export",
         .usage = "qvl export [MODEL] --gguf -o PATH [options]",
         .brief = "write a model as GGUF files for llama.cpp",
         .text = "MODEL is anything that qvl opens; with --text the decoder comes from elsewhere. Two files are written: the text "
                 "decoder with tokenizer and chat template, and the vision encoder (mmproj). What a smaller type costs is measured "
                 "and said. Files that exist are left alone without --force, and none is ever half-written.",
         .examples = "qvl export MODEL --gguf -o gguf/\n"
                     "qvl export MODEL --gguf --type q8_0 -o gguf/photo-model\n"
                     "qvl export ./pytorch --text ./cpu-text --gguf --type q4_0 -o gguf/\n",
         .min_args = 1,
         .max_args = 1},
    [QVL_CMD_PACK] =
        {.name = "pack",
         .usage = "qvl pack [MODEL] -o DIR [options]",
         .brief = "write a model with a 4-bit or 8-bit decoder into a folder of its own",
         .text = "The folder holds all that is needed, also of a GGUF model or of two halves (--text): it starts at once and works as "
                 "MODEL for every command, without the original. Answers are those of the original with the same --precision. "
                 "It appears when it is whole; Ctrl-C leaves nothing behind.",
         .examples = "qvl pack Qwen3-VL-4B-Instruct -o qwen-4b-q4\n"
                     "qvl pack model.gguf --mmproj mmproj.gguf -o packed --precision q8\n"
                     "qvl pack ./pytorch --text ./cpu-text -o packed\n",
         .min_args = 1,
         .max_args = 1},
    [QVL_CMD_PULL] =
        {.name = "pull",
         .usage = "qvl pull REPO[@REV] [options]",
         .brief = "download a model, resumable and checked",
         .text = "REPO is ORG/NAME on the hub, or ORG/NAME:QUANT for one quantisation of a GGUF repository. The files go into the cache "
                 "of the huggingface_hub client ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub) and are found there by every "
                 "command as MODEL, and by Python. Each is checked by size and hash; after Ctrl-C or a failure the same command goes "
                 "on where it ended. The folder's path goes to standard output.\n"
                 "Variables: HF_TOKEN (or the file $HF_HOME/token) for private and gated models, HF_ENDPOINT for a mirror, "
                 "HF_HUB_DOWNLOAD_TIMEOUT for the seconds of silence that end a try, HF_HUB_OFFLINE.",
         .examples = "qvl pull Qwen/Qwen3-VL-4B-Instruct\n"
                     "qvl run Qwen/Qwen3-VL-4B-Instruct --image photo.jpg -p \"Describe this.\"\n"
                     "qvl pull Qwen/Qwen3-VL-4B-Instruct-GGUF:Q4_K_M\n"
                     "qvl pull ORG/NAME@v1.0 --include \"*.json\" --include \"*.safetensors\"\n",
         .min_args = 1,
         .max_args = 1},
};

const char qvl_later_options[] = "video fps device";
const char qvl_later_commands[] = "serve batch";
