/* fuzz_messages.c - any bytes as messages: refused with a message, or rendered by both templates; then stretches add up,
 * every picture has its pad, and only the template's own turns hold control tokens. */
#include <stdint.h>

#include "text/chat.h"
#include "unit/text_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct qvl_template *open_template(const char *tail)
{
    struct qvl_template *t;
    char text[128];
    int n = snprintf(text, sizeof text, "<|im_start|><|im_end|><|image_pad|>add_generation_prompt%s", tail);
    if (qvl_template_parse(&t, text, (size_t)n, "template", NULL) != 0)
        abort();
    return t;
}

static void use(const struct qvl_chat *c, const struct qvl_chat_options *opt, const char *tail)
{
    struct qvl_template *t = open_template(tail);
    struct qvl_tokenizer *k;
    struct qvl_prompt p;
    struct qvl_ids ids = {0};
    size_t sum = 0, pads = 0, starts = 0, ends = 0;
    if (parse_small(&k, "", "",
                    "{\"id\":300,\"content\":\"<|im_start|>\",\"special\":true},{\"id\":301,\"content\":\"<|im_end|>\","
                    "\"special\":true},"
                    "{\"id\":302,\"content\":\"<|image_pad|>\",\"special\":true},{\"id\":303,\"content\":\"<|video_pad|>\","
                    "\"special\":true}",
                    NULL) != 0 ||
        qvl_template_render(t, c, opt, 1, &p, NULL) != 0 || qvl_prompt_encode(&p, k, &ids, NULL) != 0)
        abort();
    for (size_t i = 0; i < p.n_stretches; i++)
        sum += p.stretches[i].len;
    for (size_t i = 0; i < ids.n; i++) {
        starts += ids.id[i] == 300;
        ends += ids.id[i] == 301;
        pads += ids.id[i] == 302 || ids.id[i] == 303;
    }
    if (sum != p.text.len || pads != p.n_media || starts != ends + (opt->add_generation_prompt != 0) || starts > c->n + 2)
        abort();
    qvl_ids_free(&ids);
    qvl_prompt_free(&p);
    qvl_tokenizer_close(&k);
    qvl_template_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_chat c = {0};
    struct qvl_chat_options opt = {1, 0};
    qvl_err err = {0};
    int rc = qvl_chat_parse(&c, &opt, (const char *)data, size, "input", &err);
    if (rc == 0) {
        use(&c, &opt, "");
        use(&c, &opt, "<think>");
    } else if (c.n || c.tools || !err.msg[0] || err.code != rc) {
        abort();
    }
    qvl_chat_free(&c);
    return 0;
}
