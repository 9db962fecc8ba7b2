/* internal.h - what the files of the public API share. */
#ifndef QVL_ENGINE_INTERNAL_H
#define QVL_ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "base/trace.h"
#include "base/watch.h"
#include "decoder/decoder.h"
#include "formats/tensor_source.h"
#include "hub/hub.h"
#include "image/image.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/gguf_model.h"
#include "model/lora.h"
#include "model/onnx_model.h"
#include "model/packed.h"
#include "model/quantised.h"
#include "model/weights.h"
#include "sample/sampler.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "vision/encoder.h"

#define QVL_AUTO_F32_BYTES ((uint64_t)512 << 20) /* models up to this many bytes of weights run in f32 by default */
#define QVL_JSON_MAX (64u << 20) /* bytes of a messages file */

struct qvl_model {
    struct qvl_hub_found found;      /* owns the next two */
    struct qvl_hub_found found_text, found_vision; /* halves that were given by name */
    char *dir, *name;
    char precision[96];
    struct qvl_config config;
    struct qvl_tensors *tensors;     /* NULL with no_weights */
    struct qvl_gguf_model gguf;      /* keeps GGUF files open; empty for folders */
    struct qvl_onnx_model onnx;      /* halves from elsewhere; then `tensors` are views into them and into what is held */
    struct qvl_gguf_model gguf_text, gguf_vision;
    struct qvl_tensors *held[6];     /* sets that others are views of: own ones, folders, sets in between */
    int n_held;
    struct qvl_quantised quantised[3]; /* quantised folders: of the model, of either half */
    int n_quantised;
    int keep_codes; /* the kinds of packed matrices follow those of a quantised source: nobody asked for one */
    struct qvl_pack_options packing; /* of a packed folder; text = QVL_DT_UNKNOWN for others */
    struct qvl_weights weights;
    struct qvl_lora *lora;           /* [n_lora] adapters, or NULL */
    int n_lora;
    struct qvl_tokenizer *tokenizer;
    struct qvl_template *template;
    const struct qvl_kernels *kernels;
    enum qvl_arith arith_text, arith_vision;
    qvl_precision kind;              /* as asked for: of the text weights */
    int vision_q8;                   /* the blocks of the vision encoder are packed, in vision_pages */
    struct qvl_pages vision_pages;
    uint8_t *banned;                 /* [n_vocab] ids that are never sampled: rows without text, and media pads */
    int no_memory_check;
    int as_stored;                   /* weights stay as they were bound: to be looked at, not to compute with */
    struct qvl_tensors *packed;      /* cached integer weights, or NULL */
    struct qvl_pages packed_pages;   /* the same in memory */
    uint64_t packed_bytes;           /* 0: the text weights are used as stored */
    double pack_error;
    char *warnings;                  /* lines, or NULL */
};

/* One picture of a conversation. Kept as resized RGB: an eighth of the patch rows, a fraction of the features. */
struct qvl_media {
    char *source;                    /* as the user named it */
    struct qvl_image image;          /* resized */
    int rows, cols;                  /* merged grid */
    uint64_t key[2];                 /* of the resized pixels */
    struct qvl_vision_features features; /* mem = NULL: not encoded, or dropped */
    uint64_t used;                   /* clock of the last use, for dropping features */
};

struct qvl_session {
    struct qvl_model *model;
    struct qvl_session_params p;     /* with defaults filled in */
    struct qvl_pool *pool;
    struct qvl_arena vision_work;    /* of the encoder, for the next picture */
    struct qvl_pool *vision_pool;    /* of another size, for pictures; NULL: pool */
    struct qvl_decoder *decoder;
    struct qvl_sampler sampler;
    struct qvl_arena arena;          /* sampler and logits */
    float *logits;                   /* [QVL_DRAFT_MAX + 1][n_vocab] */
    struct qvl_chat chat;
    struct qvl_media **media;        /* [n_media]; NULL = free slot */
    size_t n_media;
    uint64_t clock;
    struct qvl_sequence kv;          /* what the KV cache holds: kv.n valid tokens */
    struct qvl_sequence want;        /* the prompt being built */
    atomic_int cancel;
    char *image_cache;               /* owned copy that p.image_cache points to */
    /* last answer */
    struct qvl_buf text, reasoning;  /* as handed out in qvl_result */
    struct qvl_ids ids;
};

/* ---- model.c */
/* qvl_model_open, or the same with `as_stored` weights. */
int qvl_model_open_as(qvl_model **out, const qvl_model_params *params, int as_stored, qvl_err *err);

/* ---- model_lora.c */
int qvl_model_lora(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);
void qvl_model_lora_close(struct qvl_model *m);
uint64_t qvl_model_lora_bytes(const struct qvl_model *m);

/* ---- model_halves.c */
/* Matrices in the place of the tensors of a quantised folder whose configuration is c; *t is replaced and kept open. */
int qvl_model_quantised(struct qvl_model *m, const struct qvl_config *c, struct qvl_tensors **t, qvl_err *err);

/* ---- model_gguf.c */
/* Configuration, tokenizer, template and tensors from GGUF files. */
int qvl_model_gguf_parts(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);
/* The tokenizer.json that its lists came from. Release json with qvl_buf_free, also after a failure. */
int qvl_model_gguf_tokenizer(struct qvl_buf *json, const struct qvl_model *m, size_t *n_skipped, size_t *n_merges, qvl_err *err);
/* Converts bound matrices in GGUF blocks into what the arithmetic takes. Nothing happens without such matrices. */
int qvl_model_widen(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);

/* ---- model_text.c */
/* How a large decoder from elsewhere runs when nobody says: in q4 where that has its very codes, else in q8; AUTO when it is not
 * quantised. */
qvl_precision qvl_model_text_precision(const struct qvl_model *m);

/* ---- model_halves.c */
/* m->tensors: those of the model with a decoder (p->text) or a vision encoder (p->vision) from elsewhere. */
int qvl_model_halves(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);
/* For a GGUF text model: the tower's configuration from where the encoder comes from. */
int qvl_model_vision_config(struct qvl_model *m, const char *path, qvl_err *err);

/* ---- memory.c */
/* Refuses (QVL_E_NOMEM, with the numbers and `advice`) when need bytes more cannot be had. `what` says what for. */
int qvl_memory_check(uint64_t need, const char *what, const char *advice, qvl_err *err);
/* "3.1 GB" into buf; returns buf. */
const char *qvl_human_bytes(char *buf, size_t size, uint64_t bytes);

/* ---- packing.c */
/* Replaces the matrices of the vision encoder's blocks by 8-bit ones, in memory. */
int qvl_model_pack_vision(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);
/* Replaces the text matrices by integer ones, p->precision being q4 or q8. */
int qvl_model_pack(struct qvl_model *m, const qvl_model_params *p, qvl_err *err);
/* The kind of the head when nobody says. */
enum qvl_dtype qvl_pack_default_head(enum qvl_dtype text);
/* 32 hexadecimal digits for the source files, the options and `more`. */
int qvl_model_key(char key[40], const struct qvl_model *m, const struct qvl_pack_options *o, const char *more, qvl_err *err);
/* Gives memory of the model's mapped files back to the system; for struct qvl_packing. */
void qvl_model_release(void *model, const void *p, size_t n);

/* ---- media.c */
/* Opens, decodes and resizes a picture; *index is its slot. `data` NULL: source names a file, "-", or a file:/data: URL. */
int qvl_media_add(struct qvl_session *s, const char *source, const char *base_dir, const void *data, size_t len, int *index,
                  qvl_err *err);
int qvl_media_add_rgb(struct qvl_session *s, const uint8_t *rgb, uint32_t w, uint32_t h, int *index, qvl_err *err);
/* Frees the pictures that no message refers to any more. */
void qvl_media_sweep(struct qvl_session *s);
void qvl_media_free_all(struct qvl_session *s);
/* Makes sure that the picture's features exist; *encoded tells whether they had to be computed. */
int qvl_media_encode(struct qvl_session *s, struct qvl_media *m, struct qvl_watch *watch, struct qvl_trace *trace, int *encoded,
                     qvl_err *err);

/* ---- feature_cache.c: both do nothing without a folder (p.image_cache) */
/* 1 when the picture's features were found and taken. */
int qvl_feature_cache_load(struct qvl_session *s, struct qvl_media *m);
void qvl_feature_cache_store(struct qvl_session *s, const struct qvl_media *m);

/* ---- session.c */
/* What AUTO stands for; names; bytes of the whole cache for one position. */
enum qvl_kv_type qvl_kv_choose(enum qvl_kv_type asked, enum qvl_arith text, qvl_precision weights);
const char *qvl_kv_name(enum qvl_kv_type kv);
uint64_t qvl_kv_token_bytes(const struct qvl_text_config *c, enum qvl_kv_type kv);
int qvl_session_add_chat(struct qvl_session *s, struct qvl_chat *add, const char *base_dir, qvl_err *err);
struct qvl_decoder_params qvl_decoder_params_of(const struct qvl_model *m, const struct qvl_session_params *p,
                                                struct qvl_pool *pool);

/* ---- generate.c */
struct qvl_gen_extra {
    struct qvl_trace *trace;         /* NULL = none */
    int generated_logits;            /* record them in the trace */
    int no_ban;                      /* let every id win, as the reference does */
};
int qvl_generate(struct qvl_session *s, const struct qvl_gen_params *p, const struct qvl_gen_extra *extra, qvl_result *out,
                 qvl_err *err);

/* ---- trace_file.c */
int qvl_trace_write(const struct qvl_session *s, const struct qvl_gen_params *p, const struct qvl_trace *t, const char *path,
                    qvl_err *err);

#endif
