/* names.c - the names that people's tools give to the same tensor → one canonical name.
 *
 *   published                 model.visual.*    model.language_model.*    lm_head.*
 *   saved from the inner class      visual.*          language_model.*    (none)
 *   before transformers 4.52        visual.*    model.{layers,...}.*      lm_head.*
 *   vLLM, SGLang, fine-tunes        visual.*    language_model.model.*    language_model.lm_head.*
 *   diffusion repacks         model.visual.*    model.{layers,...}.*      (dropped)
 *   MLX                       vision_tower.*    language_model.model.*    language_model.lm_head.*
 *   canonical                       visual.*          language_model.*    lm_head.* */
#include <stdio.h>
#include <string.h>

#include "model/weights.h"

/* If *s begins with `prefix`, moves behind it. */
static int strip(const char **s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*s, prefix, n) != 0)
        return 0;
    *s += n;
    return 1;
}

static int begins(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }

static int is_text_tail(const char *s) { return begins(s, "layers.") || begins(s, "embed_tokens.") || begins(s, "norm."); }

void qvl_canonical_name(char *buf, size_t size, const char *name)
{
    const char *s = name, *prefix = "";
    if (begins(s, "model.visual.") || begins(s, "model.language_model.") || begins(s, "model.vision_tower."))
        s += strlen("model.");
    if (strip(&s, "visual.") || strip(&s, "vision_tower.")) {
        prefix = "visual.";
    } else if (strip(&s, "language_model.")) {
        if (!begins(s, "lm_head.")) {
            strip(&s, "model.");
            prefix = "language_model.";
        }
    } else if (begins(s, "model.") && is_text_tail(s + strlen("model."))) {
        s += strlen("model.");
        prefix = "language_model.";
    }
    snprintf(buf, size, "%s%s", prefix, s);
}
