/* gguf_names.h - what GGUF files call the tensors of the model, read in both directions. */
#ifndef QVL_MODEL_GGUF_NAMES_H
#define QVL_MODEL_GGUF_NAMES_H

#include <stddef.h>

#include "model/config.h"

enum qvl_gguf_names {
    QVL_GGUF_TEXT,   /* whole names of the decoder's own tensors */
    QVL_GGUF_LAYER,  /* behind "blk.N." and behind "language_model.layers.N." */
    QVL_GGUF_VISION, /* from here on without ".weight" and ".bias", and behind "visual." */
    QVL_GGUF_BLOCK,  /* behind "v.blk.N." and behind "visual.blocks.N." */
    QVL_GGUF_TAP,    /* behind "v.deepstack.BLOCK." (or "v.deepstack_merger.PLACE.") and "visual.deepstack_merger_list.PLACE." */
    QVL_GGUF_N_NAMES
};

/* NULL when the list has no such name; `from` has `len` bytes. */
const char *qvl_gguf_to_canonical(enum qvl_gguf_names list, const char *from, size_t len);
/* The name that llama.cpp's converter gives to a canonical tensor of this configuration, into buf. 0 when there is none. The
 * patch weight and the experts of a layer have several: the first one's name, or that of canonical "...mlp.switch_mlp.*". */
int qvl_gguf_name_of(char *buf, size_t size, const char *canonical, const struct qvl_config *c);

#endif
