/* qvl.h - the public interface of libqvl: Qwen3-VL vision-language models on ordinary computers.
 *
 * Two nouns carry everything:
 *   qvl_model    weights, tokenizer, configuration. Immutable once open; any number of sessions may share it.
 *   qvl_session  one conversation with its KV cache. One timeline: one thread at a time may use it, except for
 *                qvl_session_cancel(), which any thread and any signal handler may call.
 *
 * Every function that can fail returns 0 or a negative QVL_E_... code and, when `err` is not NULL, fills it with a
 * one-line message. The library never prints, exits or aborts. Strings are UTF-8 and NUL-terminated.
 * Structs of parameters begin with `struct_size`: call the matching ..._default() first, then change what you need.
 */
#ifndef QVL_H
#define QVL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QVL_API __attribute__((visibility("default")))
#else
#define QVL_API
#endif

#define QVL_VERSION_MAJOR 0
#define QVL_VERSION_MINOR 1
#define QVL_VERSION_PATCH 0

enum {
    QVL_OK = 0,
    QVL_E_NOMEM = -1,       /* not enough memory, or refused before trying because it would not fit */
    QVL_E_IO = -2,          /* the operating system reported an error on a file */
    QVL_E_FORMAT = -3,      /* a file or JSON text is damaged or contradicts itself */
    QVL_E_UNSUPPORTED = -4, /* well-formed, but this version cannot do it */
    QVL_E_LIMIT = -5,       /* a limit was exceeded: context, pixels, nesting, ... */
    QVL_E_ARG = -6,         /* the caller's arguments are wrong */
    QVL_E_CANCELLED = -7,   /* stopped by qvl_session_cancel() or by a callback */
    QVL_E_STATE = -8,       /* called at the wrong time, or an internal invariant does not hold */
    QVL_E_NOTFOUND = -9     /* no such file or folder */
};

typedef struct qvl_err {
    int code;
    char msg[512];
} qvl_err;

typedef struct qvl_model qvl_model;
typedef struct qvl_session qvl_session;

/* "0.1.0" */
QVL_API const char *qvl_version(void);
/* Short English name of a QVL_E_... code ("out of memory"); never NULL. */
QVL_API const char *qvl_strerror(int code);
/* Memory returned by the library as `char **` is released with this; NULL is fine. */
QVL_API void qvl_free(void *p);

/* Progress of something long. `stage` is one of "load", "calibrate", "pack", "vision", "prompt", "write", "pull"; done <= total. Called
 * on the thread that called the library, at most some twenty times a second. Return non-zero to stop with QVL_E_CANCELLED. */
typedef int (*qvl_progress_fn)(void *ud, const char *stage, uint64_t done, uint64_t total);

/* ---------------------------------------------------------------- model */

typedef enum qvl_precision {
    QVL_PRECISION_AUTO = 0, /* f32 for models under 512 MB of weights, else vision bf16 and text q4, packed once; a larger decoder
                               that is quantised already (safetensors, `text`, GGUF): each matrix in what has its codes (q4, or q8 for
                               more than 4 bits); a packed folder: as it is packed */
    QVL_PRECISION_F32 = 1,  /* every sum and every activation in float32: the proof */
    QVL_PRECISION_BF16 = 2, /* activations rounded to bf16 in front of matrix products, sums in f32 */
    QVL_PRECISION_Q8 = 3,   /* 8-bit weights in groups of 32, 8-bit activations, sums in f32 */
    QVL_PRECISION_Q4 = 4    /* text only: 4-bit weights in groups of 32, 8-bit activations, sums in f32 */
} qvl_precision;

/* A low-rank adapter of the text decoder: a PEFT folder (adapter_config.json, adapter_model.safetensors) or the name of one. */
typedef struct qvl_adapter {
    const char *path;
    double scale;              /* times the adapter's own; 1 = as trained, 0 = without effect */
} qvl_adapter;

typedef struct qvl_model_params {
    size_t struct_size;
    const char *path;          /* Hugging Face folder (config.json, *.safetensors, tokenizer.json), .gguf file, a folder with one
                                  model in .gguf files, or a name for qvl_hub_find */
    qvl_precision precision;   /* text decoder and, unless the next field says otherwise, vision encoder */
    qvl_precision vision_precision; /* also QVL_PRECISION_Q8, the fast mode: the encoder's blocks as 8-bit weights with a scale
                                  for each row and 8-bit activations, packed at load; features keep a cosine of 0.999 (mean) to those of f32 */
    const char *cpu;           /* NULL = best for this machine; "ref", "avx2", "avx_vnni", "avx512",
                                  "avx512_vnni", "avx512_bf16", "neon_dotprod", "neon_i8mm" */
    int no_weights;            /* 1 = configuration and tokenizer only: enough for tokenize and templates */
    int no_memory_check;       /* 1 = do not refuse when the model cannot fit */
    qvl_progress_fn progress;  /* may be NULL */
    void *progress_ud;
    int no_cache;              /* 1 = packed weights (q8, q4) are made in memory at every start, not kept in the cache folder
                                  ($XDG_CACHE_HOME/qvl, else ~/.cache/qvl) */
    const char *mmproj;        /* vision half of a GGUF model; NULL = found beside the text file, or inside it */
    const char *text;          /* text decoder from elsewhere: an ONNX Runtime GenAI folder (genai_config.json, model.onnx) or the
                                  .onnx file in it, a .gguf file (or a folder with one model in such files), or a Hugging Face folder.
                                  Configuration and tokenizer come from `path`, whose own decoder need not be there; a half that does
                                  not fit them is QVL_E_FORMAT. NULL = from `path` */
    const char *vision;        /* vision encoder from elsewhere: a Hugging Face folder, or the vision half of a GGUF model (mmproj).
                                  `path` may then be a GGUF text model without one, which takes that part of the configuration along.
                                  NULL = from `path` */
    const qvl_adapter *lora;   /* n_lora adapters (at most 16), added while computing, whatever the precision; not copied */
    size_t n_lora;
} qvl_model_params;

QVL_API void qvl_model_params_default(qvl_model_params *p);
/* Opens and checks a model. Weights are memory-mapped: the files must not be changed while the model is open. */
QVL_API int qvl_model_open(qvl_model **out, const qvl_model_params *p, qvl_err *err);
/* Accepts NULL and pointers to NULL; sets *m to NULL. Every session of the model must be closed before. */
QVL_API void qvl_model_close(qvl_model **m);

typedef struct qvl_model_info {
    size_t struct_size;
    const char *name;              /* last component of the path; borrowed from the model */
    const char *cpu;               /* kernel level in use */
    const char *precision;         /* for example "vision f32 · text f32"; borrowed */
    uint64_t weight_bytes;         /* mapped from files */
    uint64_t copied_bytes;         /* converted into memory of our own */
    uint64_t kv_bytes_per_token;   /* of QVL_KV_AUTO; that of a session: qvl_session_kv */
    uint64_t n_params;
    uint32_t n_layer, d_model, n_head, n_kv, d_head, d_ff, n_vocab, n_expert;
    uint32_t v_depth, v_model, v_head;
    uint32_t max_context;          /* max_position_embeddings */
    int thinking;                  /* 1: answers begin inside a <think> block */
    uint64_t packed_bytes;         /* q8, q4: size of the packed matrices; 0 otherwise */
    double pack_error;             /* relative RMS error of packing, when they were packed in this call; else 0 */
    const char *warnings;          /* one a line; "" when there are none; borrowed */
} qvl_model_info;
/* Set info->struct_size before the call. */
QVL_API int qvl_model_get_info(const qvl_model *m, qvl_model_info *info, qvl_err *err);

typedef struct qvl_pack_params {
    size_t struct_size;
    const char *path, *mmproj, *text, *vision; /* the model, as in qvl_model_params */
    const char *out;           /* the folder to make. One that is there and not empty is refused */
    int force;                 /* 1 = write into such a folder all the same, unless it holds another model */
    qvl_precision precision;   /* of the text decoder: Q4 (also AUTO) or Q8 */
    qvl_precision head;        /* of the matrix in front of the logits: Q4, Q8, BF16 (kept as the model has it), or AUTO */
    const char *calibrate;     /* file with a request a line (messages as in qvl_session_add_json, or {"text": "..."}; pictures relative to
                                  it), which the unpacked model reads first: scales are then chosen to keep what its inputs make
                                  matter. NULL = none */
    const char *cpu;
    uint32_t n_threads;        /* 0 = as many as this process may use. The result does not depend on it */
    qvl_progress_fn progress;  /* may be NULL */
    void *progress_ud;
} qvl_pack_params;

typedef struct qvl_pack_result {
    size_t struct_size;
    uint64_t file_bytes;       /* of the tensors in the folder */
    uint64_t packed_bytes;     /* of the packed matrices among them */
    double error;              /* relative RMS error of the packed weights; calibrated: of what they contribute */
    uint64_t n_requests, n_tokens; /* of the calibration */
} qvl_pack_result;

QVL_API void qvl_pack_params_default(qvl_pack_params *p);
/* Writes a model of any form into a folder of its own: packed decoder, everything else in the type it has (never below bf16),
 * tokenizer and configuration. qvl_model_open takes the folder like any other, without the original; its answers are those
 * of the original at the same precision. The folder appears when it is whole, or not at all. `out` may be NULL; set out->struct_size
 * before the call. */
QVL_API int qvl_pack(const qvl_pack_params *p, qvl_pack_result *out, qvl_err *err);
/* 1 when the path is such a folder. */
QVL_API int qvl_model_is_packed(const char *path);

/* What is in a model folder or a tensor file, as a JSON object (release with qvl_free). Does not load weights. */
QVL_API int qvl_inspect(const char *path, char **json, qvl_err *err);

/* ---------------------------------------------------------------- export */

typedef struct qvl_export_params {
    size_t struct_size;
    const char *out;         /* folder (existing, or ending in "/"): NAME-TYPE.gguf and mmproj-NAME-TYPE.gguf in it, NAME being the
                                model's; else the beginning of the path, "DIR/NAME"; or the text file's path when it ends in ".gguf" */
    const char *type;        /* of the decoder's matrices: "f32", "f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"; NULL or "auto":
                                each as the model has it; where GGUF has no such type, q4_0 if that keeps its codes, else f16 */
    const char *mmproj_type; /* of the vision encoder's: "f32", "f16", "bf16", "q8_0", "auto"; NULL = "f16" */
    int force;               /* 1 = replace files that exist */
    qvl_progress_fn progress; /* stage "write"; may be NULL */
    void *progress_ud;
} qvl_export_params;

typedef struct qvl_export_result {
    size_t struct_size;
    char *text_path, *mmproj_path; /* release with qvl_free */
    uint64_t text_bytes, mmproj_bytes;
    double text_loss, mmproj_loss; /* relative RMS error of the weights that were given another type */
} qvl_export_result;

QVL_API void qvl_export_params_default(qvl_export_params *p);
/* Writes a model as GGUF files that llama.cpp and qvl_model_open read: the decoder with its tokenizer and template, and the vision
 * encoder. `model` says what to open (precision and the like do not matter). Both files appear whole or not at all. `result` may be
 * NULL; otherwise set its struct_size. */
QVL_API int qvl_export_gguf(const qvl_model_params *model, const qvl_export_params *p, qvl_export_result *result, qvl_err *err);

/* ---------------------------------------------------------------- models by name */

/* Where a model argument leads: an existing path to itself; "ORG/NAME", "ORG/NAME@REVISION" (branch, tag, commit or the beginning
 * of one), "ORG/NAME:QUANT" or "ORG/NAME/FILE" into the Hugging Face cache (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME,
 * XDG_CACHE_HOME, ~/.cache/huggingface/hub); "NAME:TAG" into Ollama's store (OLLAMA_MODELS, ~/.ollama/models). No network.
 * qvl_model_open, qvl_inspect and qvl_bench do this with their path themselves. `revision` may be NULL. *path, and *mmproj (may be
 * NULL; NULL is stored when the model needs none) are released with qvl_free. QVL_E_NOTFOUND says where was looked, or which
 * file of the snapshot is missing. */
QVL_API int qvl_hub_find(const char *name, const char *revision, char **path, char **mmproj, qvl_err *err);

typedef enum qvl_pull_status {
    QVL_PULL_PRESENT = 0, /* it was there already */
    QVL_PULL_FETCHED,     /* downloaded and checked */
    QVL_PULL_RESUMED,     /* the same, going on where an earlier download ended */
    QVL_PULL_WAITING      /* another process is downloading it; a second row follows */
} qvl_pull_status;

typedef struct qvl_pull_row {
    const char *name;     /* of the file inside the repository; borrowed for the call */
    uint64_t bytes;
    qvl_pull_status status;
} qvl_pull_row;
typedef void (*qvl_pull_fn)(void *ud, const qvl_pull_row *row);

typedef struct qvl_pull_params {
    size_t struct_size;
    const char *repo;           /* "ORG/NAME", with "@REVISION", ":QUANT" or "/FILE" as for qvl_hub_find */
    const char *revision;       /* NULL = as in `repo`, else "main" */
    const char *const *include; /* n_include patterns ("*.json", "onnx/"): exactly the files that match one; n_include = 0: what a
                                   model needs (safetensors, or one quantisation of a GGUF repository with its mmproj; json, txt,
                                   jinja, tokenizer files) */
    size_t n_include;
    const char *const *exclude; /* n_exclude patterns of files to leave out */
    size_t n_exclude;
    uint32_t n_jobs;            /* files at a time; 0 = 4 */
    int force;                  /* 1 = also what is there already */
    qvl_progress_fn progress;   /* stage "pull", in bytes; may be NULL */
    void *progress_ud;
    qvl_pull_fn on_file;        /* may be NULL; on the caller's thread */
    void *on_file_ud;
} qvl_pull_params;

QVL_API void qvl_pull_params_default(qvl_pull_params *p);
/* Downloads into the Hugging Face cache, in that cache's own layout, from HF_ENDPOINT. *folder (may be NULL), released with
 * qvl_free, is the snapshot's. Files are checked by size and hash before they appear; what a stop or a failure leaves is taken up by
 * the next call. QVL_E_NOTFOUND: no such repository, revision or file; QVL_E_UNSUPPORTED: a library built without libcurl. */
QVL_API int qvl_pull(const qvl_pull_params *p, char **folder, qvl_err *err);

/* ---------------------------------------------------------------- text */

/* Token ids of `text` as the reference tokenizer gives them. plain = 1 treats the text as something a user typed:
 * "<|im_end|>" in it stays ordinary text. *ids is released with qvl_free. */
QVL_API int qvl_tokenize(const qvl_model *m, const char *text, size_t len, int plain, int32_t **ids, size_t *n, qvl_err *err);
/* The bytes of the ids, invalid UTF-8 replaced by U+FFFD. *text is NUL-terminated and released with qvl_free. */
QVL_API int qvl_detokenize(const qvl_model *m, const int32_t *ids, size_t n, int skip_special, char **text, size_t *len, qvl_err *err);
/* Renders messages (JSON: a list of messages, or an object with "messages" and optionally "tools",
 * "add_generation_prompt", "add_vision_id") with the model's chat template. Media stay single pads; no file is opened. */
QVL_API int qvl_render(const qvl_model *m, const char *json, size_t json_len, char **text, size_t *len, qvl_err *err);

/* ---------------------------------------------------------------- session */

/* How keys and values of past tokens are kept. f32 and bf16 are read as in the arithmetic of that name, whatever the model's
 * own is. int8 has one scale for each key and each value: a little more than half the size of bf16, a quarter of f32, and
 * results that do not depend on the kernel level. */
typedef enum qvl_kv_type {
    QVL_KV_AUTO = 0, /* int8 beside q4 weights, f32 in f32 arithmetic, else bf16 */
    QVL_KV_F32 = 1,
    QVL_KV_BF16 = 2,
    QVL_KV_INT8 = 3
} qvl_kv_type;

typedef enum qvl_alpha { QVL_ALPHA_WHITE = 0, QVL_ALPHA_DROP = 1 } qvl_alpha;

typedef struct qvl_session_params {
    size_t struct_size;
    uint32_t n_ctx;             /* positions in the KV cache; 0 = up to 32768 (or the model's maximum), of which memory is
                                   taken only as the conversation grows */
    uint32_t n_threads;         /* 0 = as many as the affinity mask and the container's quota give and the model can use */
    uint32_t n_chunk;           /* prompt tokens computed at once; 0 = 512 */
    uint64_t min_pixels, max_pixels; /* of a resized picture; 0 = from preprocessor_config.json. The maximum wins */
    qvl_alpha alpha;            /* what to do with transparent pictures */
    int add_vision_id;          /* 1: "Picture 1: " before each picture */
    int no_memory_check;
    const char *image_cache;    /* folder in which encoded pictures are kept for later sessions; NULL = none */
    uint64_t image_cache_bytes; /* what the folder may hold; 0 = 2 GiB */
    uint32_t n_threads_vision;  /* for encoding pictures; 0 = n_threads */
    qvl_kv_type kv;             /* type of the KV cache */
} qvl_session_params;

QVL_API void qvl_session_params_default(qvl_session_params *p);
QVL_API int qvl_session_open(qvl_session **out, qvl_model *m, const qvl_session_params *p, qvl_err *err);
QVL_API void qvl_session_close(qvl_session **s);
/* Bytes that a session with these parameters can come to use (whole KV cache and work memory, without pictures). */
QVL_API int qvl_session_bytes(const qvl_model *m, const qvl_session_params *p, uint64_t *bytes, qvl_err *err);

typedef enum qvl_role { QVL_ROLE_SYSTEM = 0, QVL_ROLE_USER, QVL_ROLE_ASSISTANT, QVL_ROLE_TOOL } qvl_role;

typedef enum qvl_part_kind {
    QVL_PART_TEXT = 0,   /* data, len: UTF-8 text */
    QVL_PART_IMAGE_FILE, /* data: path, NUL-terminated; "-" is standard input */
    QVL_PART_IMAGE_DATA, /* data, len: the bytes of an encoded picture (JPEG, PNG, ...) */
    QVL_PART_IMAGE_RGB   /* data: width*height*3 bytes, row by row */
} qvl_part_kind;

typedef struct qvl_part {
    qvl_part_kind kind;
    const void *data;
    size_t len;
    uint32_t width, height; /* QVL_PART_IMAGE_RGB only */
} qvl_part;

/* Appends one message. Pictures are decoded and resized now, so a bad picture fails here and leaves the
 * conversation as it was. All data is copied. */
QVL_API int qvl_session_add(qvl_session *s, qvl_role role, const qvl_part *parts, size_t n_parts, qvl_err *err);
/* Appends messages given as JSON in the OpenAI form (see qvl_render); relative picture paths are taken from
 * base_dir (NULL = current folder). All or nothing. */
QVL_API int qvl_session_add_json(qvl_session *s, const char *json, size_t len, const char *base_dir, qvl_err *err);
/* How many positions of the KV cache are filled, and how many there are. */
QVL_API void qvl_session_context(const qvl_session *s, uint32_t *used, uint32_t *total);
/* Type of the session's KV cache ("f32", "bf16", "int8"), and bytes that one position takes in it. */
QVL_API void qvl_session_kv(const qvl_session *s, const char **type, uint64_t *bytes_per_token);
/* Removes the last n messages. Their KV cache entries are given up when the next answer is generated. */
QVL_API int qvl_session_pop(qvl_session *s, size_t n, qvl_err *err);
/* Number of messages, the answers included. */
QVL_API size_t qvl_session_count(const qvl_session *s);
/* Forgets every message; keeps memory and caches. */
QVL_API void qvl_session_clear(qvl_session *s);
/* The conversation as a JSON list of messages (pictures as their file names). Release with qvl_free. */
QVL_API int qvl_session_messages(const qvl_session *s, char **json, qvl_err *err);

/* A piece of the answer: complete UTF-8 characters, not NUL-terminated. Return non-zero to stop the answer; what was
 * written so far is kept and the finish reason is "cancelled". */
typedef int (*qvl_text_fn)(void *ud, const char *text, size_t len);

typedef struct qvl_gen_params {
    size_t struct_size;
    uint32_t max_tokens;      /* 0 = until the end token or the end of the context */
    int greedy;               /* 1 = most likely token; the fields down to min_p are then unused */
    float temperature;        /* <= 0 means greedy */
    uint32_t top_k;           /* 0 = off */
    float top_p;              /* 1 = off */
    float min_p;              /* 0 = off */
    float repetition_penalty; /* 1 = off; counts prompt and answer */
    float presence_penalty;   /* 0 = off; counts the answer only */
    float frequency_penalty;  /* 0 = off; counts the answer only */
    uint64_t seed;
    const char *const *stop;  /* n_stop strings; the answer ends in front of the first one found */
    size_t n_stop;
    int no_generation_prompt; /* 1 = continue the conversation as it stands, for traces */
    const char *trace_path;   /* write every intermediate to this safetensors file; NULL = no */
    qvl_text_fn on_text;      /* may be NULL */
    void *on_text_ud;
    qvl_progress_fn progress; /* may be NULL */
    void *progress_ud;
    int no_draft;             /* 1 = one token a step. By default tokens that repeat earlier text are drafted and confirmed
                                 several at a time when that is faster; the answer is the same */
} qvl_gen_params;

/* Defaults from the model's generation_config.json; m may be NULL (then: greedy). */
QVL_API void qvl_gen_params_default(qvl_gen_params *p, const qvl_model *m);

typedef enum qvl_finish {
    QVL_FINISH_STOP = 0,  /* end token or stop string */
    QVL_FINISH_LENGTH,    /* max_tokens or the context was reached */
    QVL_FINISH_CANCELLED
} qvl_finish;

typedef struct qvl_result {
    const char *text;          /* the whole answer; valid until the next call on the session */
    size_t text_len;
    const char *reasoning;     /* thinking models: the text in front of </think>; else NULL. `text` is without it. */
    const int32_t *ids;        /* generated ids, end token included when reached; valid until the next call */
    size_t n_ids;
    qvl_finish finish;
    uint32_t n_images, n_image_tokens;  /* encoded in this call */
    uint32_t n_prompt;         /* length of the whole prompt in tokens */
    uint32_t n_prompt_new;     /* of these, computed in this call (the others were in the cache) */
    double vision_ms, prompt_ms, decode_ms; /* wall time */
    uint32_t n_drafted, n_accepted; /* drafted tokens that were computed, and those of them that were right */
} qvl_result;

/* Generates the assistant's next message, streams it to on_text and appends it to the conversation. `out` may be NULL.
 * After QVL_E_CANCELLED (stopped before the first token) the conversation is as it was. */
QVL_API int qvl_session_generate(qvl_session *s, const qvl_gen_params *p, qvl_result *out, qvl_err *err);
/* Makes a running generate stop soon, also inside the vision encoder and the prompt. Async-signal-safe. */
QVL_API void qvl_session_cancel(qvl_session *s);

/* ---------------------------------------------------------------- verify */

typedef struct qvl_verify_row {
    const char *name;     /* tensor name in the golden */
    const char *shape;    /* "[122,256] F32" */
    double max_abs, rel_l2, min_cos; /* NaN where they do not apply */
    double limit;         /* of rel_l2; NaN = reported only */
    int pass;             /* 1 PASS, 0 FAIL, 2 reported only */
    const char *note;     /* further facts ("bit-equal 100.00 %", "first difference at token 7 is a near tie") or "" */
} qvl_verify_row;
typedef void (*qvl_verify_fn)(void *ud, const qvl_verify_row *row);

/* Runs the request that is stored in the golden and compares every tensor with it (see docs/traces.md).
 * *passed = 1 when every limit holds. One golden that cannot be read is an error. */
QVL_API int qvl_verify(qvl_model *m, const qvl_session_params *p, const char *golden_path, qvl_verify_fn on_row, void *ud,
                       int *passed, qvl_err *err);

/* ---------------------------------------------------------------- bench */

typedef struct qvl_bench_row {
    const char *name;  /* "read probe", "int8 probe", "picture", "prefill", "decode", "load", ... */
    const char *what;  /* "512 tokens", "1024x768", ... */
    double value;      /* in `unit` */
    const char *unit;
    double share;      /* of the machine's own limit measured in the same run, 0..1; NaN = none */
    const char *of;    /* the limit the share refers to, or "" */
    double spread;     /* (slowest - fastest) / median of the rounds whose median `value` comes from; NaN = measured once */
} qvl_bench_row;
typedef void (*qvl_bench_fn)(void *ud, const qvl_bench_row *row);

typedef struct qvl_bench_params {
    size_t struct_size;
    const char *path;       /* model folder, or NULL: random weights of `shape` */
    const char *shape;      /* "2b", "4b", "8b", "32b" */
    qvl_precision precision; /* AUTO: what qvl_model_open would choose; of a shape: q4 */
    const char *cpu;
    uint32_t n_threads;
    /* Lists, at most 16 long, not copied. NULL = the default in brackets; a list of length 0 with a non-NULL pointer = none. */
    const uint32_t *prompts;       /* prompt lengths in tokens [128, 512] */
    size_t n_prompts;
    const uint32_t *prompt_depths; /* positions in the cache in front of the prompt [0, 3584]; > 0: the last length only */
    size_t n_prompt_depths;
    const uint32_t *depths;        /* positions in the cache when answering [128, 1024, 8192] */
    size_t n_depths;
    uint32_t n_decode;             /* tokens answered at each depth; 0 = 16, at most 1024 */
    const uint32_t *images;        /* width, height pairs in pixels [400x300, 1024x768] */
    size_t n_images;               /* pairs */
    qvl_precision vision_precision; /* as in qvl_model_params */
    uint32_t n_threads_vision;     /* 0 = n_threads */
    qvl_kv_type kv;                /* type of the KV cache */
    const qvl_adapter *lora;       /* n_lora adapters, as in qvl_model_params; with `path` only */
    size_t n_lora;
} qvl_bench_params;
QVL_API void qvl_bench_params_default(qvl_bench_params *p);
QVL_API int qvl_bench(const qvl_bench_params *p, qvl_bench_fn on_row, void *ud, qvl_err *err);

/* Peak resident memory of this process in bytes, 0 if unknown. */
QVL_API uint64_t qvl_peak_memory(void);

#ifdef __cplusplus
}
#endif
#endif
