/* tokenizer_file.c - tokenizer files -> struct qvl_tokenizer.
 *
 * tokenizer.json describes a pipeline of normaliser, pre-tokeniser, model and decoder. Only the one pipeline of the Qwen
 * family is implemented, so every section is compared with it and anything else is refused by name. The two big lists,
 * vocabulary and merges, are cut out and read by themselves; what remains is small and goes through the JSON library. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/json_scan.h"
#include "text/pretokenize.h"
#include "text/vocab_load.h"

enum { MAX_FILE = 256 << 20 };

/* ---------------------------------------------------------------- the pipeline */

static int refuse(struct qvl_vocab_loader *l, const char *section, const json_t *found)
{
    const char *type = json_string_value(json_object_get(found, "type"));
    return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: %s: \"%.64s\" is not what Qwen models use", l->what, section,
                    type                            ? type
                    : json_is_null(found) || !found ? "null"
                                                    : "?");
}

static int is_type(const json_t *v, const char *type)
{
    const char *t = json_string_value(json_object_get(v, "type"));
    return t && strcmp(t, type) == 0;
}

static int is_false(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);
    return v && json_is_false(v);
}

/* A section that is one step, or a Sequence of exactly one. */
static const json_t *single(const json_t *v, const char *list)
{
    const json_t *steps = json_object_get(v, list);
    return is_type(v, "Sequence") && json_array_size(steps) == 1 ? json_array_get(steps, 0) : v;
}

static int check_pipeline(struct qvl_vocab_loader *l, const json_t *root)
{
    const json_t *norm = single(json_object_get(root, "normalizer"), "normalizers");
    l->t->nfc = is_type(norm, "NFC");
    if (!l->t->nfc && norm && !json_is_null(norm))
        return refuse(l, "normalizer", norm);

    const json_t *pre = json_object_get(root, "pre_tokenizer"), *steps = json_object_get(pre, "pretokenizers");
    const json_t *split = json_array_get(steps, 0), *bytes = json_array_get(steps, 1);
    if (!is_type(pre, "Sequence") || json_array_size(steps) != 2)
        return refuse(l, "pre_tokenizer", pre);
    if (!is_type(split, "Split"))
        return refuse(l, "pre_tokenizer.pretokenizers[0]", split);
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (!regex || strcmp(regex, QVL_PRETOKENIZE_REGEX) != 0)
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: pre_tokenizer: the expression %.300s is not supported", l->what,
                        regex ? regex : "(none)");
    if (!behavior || strcmp(behavior, "Isolated") != 0 || !is_false(split, "invert"))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: pre_tokenizer: Split must be Isolated and not inverted", l->what);
    if (!is_type(bytes, "ByteLevel"))
        return refuse(l, "pre_tokenizer.pretokenizers[1]", bytes);
    if (!is_false(bytes, "add_prefix_space") || !is_false(bytes, "use_regex"))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED,
                        "%s: pre_tokenizer: ByteLevel must have add_prefix_space and use_regex false", l->what);

    const json_t *post = json_object_get(root, "post_processor");
    if (post && !json_is_null(post) && !is_type(single(post, "processors"), "ByteLevel"))
        return refuse(l, "post_processor", post);
    const json_t *dec = json_object_get(root, "decoder");
    return is_type(single(dec, "decoders"), "ByteLevel") ? 0 : refuse(l, "decoder", dec);
}

/* Options of the model section that would change the result must be off. Those about unknown characters cannot matter:
 * every byte has a token. */
static int check_model(struct qvl_vocab_loader *l, const json_t *model)
{
    static const char *const text[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    if (!json_is_object(model))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: model: is not an object", l->what);
    if (type && !is_type(model, "BPE"))
        return refuse(l, "model", model);
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.dropout: %g is not supported", l->what,
                        json_number_value(dropout));
    for (size_t i = 0; i < QVL_COUNT(text); i++) {
        const char *s = json_string_value(json_object_get(model, text[i]));
        if (s && *s)
            return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.%s: \"%.64s\" is not supported", l->what, text[i], s);
    }
    if (json_is_true(json_object_get(model, "ignore_merges")))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.ignore_merges is not supported", l->what);
    return 0;
}

/* ---------------------------------------------------------------- tokenizer.json */

/* Finds the values of model.vocab and model.merges; what is not there stays empty. One pass, because it is a pass over
 * eleven megabytes. */
static void find_lists(const char *json, size_t len, struct qvl_vocab_list *vocab, struct qvl_vocab_list *merges)
{
    struct qvl_scan c = {json, len, 0};
    const char *key;
    size_t n;
    int in_model = 0;
    if (!qvl_scan_take(&c, '{'))
        return;
    do {
        if (qvl_scan_key(&c, &key, &n) != 0)
            return;
        if (!in_model && n == 5 && memcmp(key, "model", 5) == 0 && qvl_scan_take(&c, '{')) {
            in_model = 1;
            if (qvl_scan_key(&c, &key, &n) != 0)
                return;
        }
        struct qvl_vocab_list *list = !in_model                                 ? NULL
                                      : n == 5 && memcmp(key, "vocab", 5) == 0  ? vocab
                                      : n == 6 && memcmp(key, "merges", 6) == 0 ? merges
                                                                                : NULL;
        struct qvl_vocab_list found = {.at = c.at};
        if (qvl_scan_skip(&c, &found.n_commas) != 0)
            return;
        found.len = c.at - found.at;
        found.json = json + found.at;
        if (list)
            *list = found;
    } while (qvl_scan_take(&c, ','));
}

/* The text with the two lists replaced by null and by their line ends, so that errors name the right line. */
static int parse_rest(json_t **root, const char *json, size_t len, struct qvl_vocab_list a, struct qvl_vocab_list b,
                      const char *what, qvl_err *err)
{
    struct qvl_buf rest;
    const struct qvl_vocab_list cut[2] = {a.at < b.at ? a : b, a.at < b.at ? b : a};
    size_t at = 0;
    qvl_buf_init(&rest, SIZE_MAX / 4);
    for (int i = 0; i < 2; i++) {
        if (!cut[i].len)
            continue;
        qvl_buf_add(&rest, json + at, cut[i].at - at);
        qvl_buf_puts(&rest, "null");
        at = cut[i].at + cut[i].len;
        for (const char *p = json + cut[i].at; (p = memchr(p, '\n', (size_t)(json + at - p))); p++)
            qvl_buf_putc(&rest, '\n');
    }
    qvl_buf_add(&rest, json + at, len - at);
    int rc =
        rest.failed ? qvl_fail_nomem(err, len, what) : qvl_json_parse(root, rest.len ? rest.data : "", rest.len, what, err);
    qvl_buf_free(&rest);
    return rc;
}

int qvl_tokenizer_parse(struct qvl_tokenizer **out, const char *json, size_t len, const char *what, qvl_err *err)
{
    struct qvl_vocab_loader l;
    struct qvl_vocab_list vocab = {.json = json}, merges = {.json = json};
    find_lists(json, len, &vocab, &merges);
    json_t *root = NULL;
    int rc;
    *out = NULL;
    QVL_TRY(qvl_vocab_begin(&l, what, err));
    QVL_TRY_DONE(parse_rest(&root, json, len, vocab, merges, what, err));
    if (!json_is_object(root)) {
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: is not an object", what);
        goto done;
    }
    QVL_TRY_DONE(check_pipeline(&l, root));
    QVL_TRY_DONE(check_model(&l, json_object_get(root, "model")));
    QVL_TRY_DONE(qvl_vocab_load_tokens(&l, &vocab, "model.vocab"));
    QVL_TRY_DONE(qvl_vocab_load_merges(&l, &merges));
    QVL_TRY_DONE(qvl_vocab_load_added(&l, json_object_get(root, "added_tokens")));
done:
    json_decref(root);
    return qvl_vocab_finish(&l, out, rc);
}

/* ---------------------------------------------------------------- folders */

/* vocab.json, merges.txt and, for the added tokens, tokenizer_config.json: the older form of the same tokenizer. */
static int load_parts(struct qvl_vocab_loader *l, const char *vocab_path, const char *merges_path, const char *config_path)
{
    json_t *config = NULL;
    char *vocab = NULL, *merges = NULL;
    size_t len = 0;
    int rc;
    l->t->nfc = 1;
    l->what = vocab_path;
    QVL_TRY_DONE(qvl_file_read(&vocab, &len, vocab_path, MAX_FILE, l->err));
    struct qvl_vocab_list list = {.json = vocab, .len = len};
    struct qvl_scan c = {vocab, len, 0};
    qvl_scan_skip(&c, &list.n_commas); /* what it meets is met again by the loader */
    QVL_TRY_DONE(qvl_vocab_load_tokens(l, &list, "vocabulary"));
    l->what = merges_path;
    QVL_TRY_DONE(qvl_file_read(&merges, &len, merges_path, MAX_FILE, l->err));
    QVL_TRY_DONE(qvl_vocab_load_merge_lines(l, merges, len));
    l->what = config_path;
    QVL_TRY_DONE(qvl_json_read_texts(&config, config_path, MAX_FILE, l->err));
    QVL_TRY_DONE(qvl_vocab_load_added_decoder(l, json_object_get(config, "added_tokens_decoder")));
done:
    json_decref(config);
    qvl_mem_free(vocab);
    qvl_mem_free(merges);
    return rc;
}

int qvl_tokenizer_open(struct qvl_tokenizer **out, const char *dir, qvl_err *err)
{
    static const char *const name[4] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"};
    char *path[4] = {NULL};
    int rc = 0;
    *out = NULL;
    for (int i = 0; i < 4 && rc == 0; i++)
        if (!(path[i] = qvl_path_join(dir, name[i])))
            rc = qvl_fail_nomem(err, strlen(dir), dir);
    if (rc == 0 && !qvl_file_exists(path[0]) && qvl_file_exists(path[1])) {
        struct qvl_vocab_loader l;
        rc = qvl_vocab_begin(&l, dir, err);
        if (rc == 0)
            rc = qvl_vocab_finish(&l, out, load_parts(&l, path[1], path[2], path[3]));
    } else if (rc == 0) {
        struct qvl_map map;
        rc = qvl_map_open(&map, path[0], err);
        if (rc == 0 && map.size > MAX_FILE)
            rc = qvl_fail(err, QVL_E_LIMIT, "%s: %zu bytes, the limit is %d", path[0], map.size, MAX_FILE);
        if (rc == 0)
            rc = qvl_tokenizer_parse(out, map.size ? (const char *)map.data : "", map.size, path[0], err);
        qvl_map_close(&map);
    }
    for (int i = 0; i < 4; i++)
        qvl_mem_free(path[i]);
    return rc;
}
