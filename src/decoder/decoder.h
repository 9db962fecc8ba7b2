/* decoder.h - the text decoder: token ids and picture features -> logits, with a KV cache.
 *
 * Sections 6 and 7 of docs/model.md. One layer loop serves prompts (many tokens) and answers (one token). All memory is
 * taken when the decoder is opened; a step allocates nothing. */
#ifndef QVL_DECODER_DECODER_H
#define QVL_DECODER_DECODER_H

#include "base/trace.h"
#include "base/watch.h"
#include "decoder/adapt.h"
#include "decoder/moments.h"
#include "decoder/sequence.h"
#include "kernels/kernels.h"
#include "model/weights.h"

struct qvl_decoder_params {
    const struct qvl_text_config *config;
    const struct qvl_text_weights *weights;
    const struct qvl_kernels *kernels;
    const struct qvl_lora *lora; /* [n_lora] adapters */
    int n_lora;
    enum qvl_arith arith;
    enum qvl_kv_type kv;
    int64_t n_ctx;    /* positions in the KV cache */
    int64_t n_chunk;  /* most tokens in one step */
    struct qvl_pool *pool;
};

struct qvl_decoder;

/* Bytes that opening takes: KV cache, and everything else. */
int qvl_decoder_bytes(const struct qvl_decoder_params *p, int n_threads, size_t *kv, size_t *work);
/* The structs that p points to must outlive the decoder. */
int qvl_decoder_open(struct qvl_decoder **out, const struct qvl_decoder_params *p, qvl_err *err);
void qvl_decoder_close(struct qvl_decoder **d);

/* Puts numbers into the first n_pos (<= n_ctx) positions of the cache, as if they had been computed: for measuring at a depth. */
void qvl_decoder_fill(struct qvl_decoder *d, int64_t n_pos);

/* From now on what the matrices are multiplied by is added to m; NULL: no more. */
void qvl_decoder_observe(struct qvl_decoder *d, struct qvl_moments *m);

/* Computes tokens [from, to) of the sequence (to - from <= n_chunk); positions < from must be in the cache already and stay
 * valid; entries from `from` on are overwritten. Writes logits of the last n_logits tokens to logits[n_logits][n_vocab]
 * (0 = none). QVL_E_CANCELLED when the watch asked to stop: the cache then holds `from` valid positions. */
int qvl_decoder_step(struct qvl_decoder *d, const struct qvl_sequence *seq, int64_t from, int64_t to, int64_t n_logits,
                     float *logits, struct qvl_watch *watch, struct qvl_trace *trace, qvl_err *err);

#endif
