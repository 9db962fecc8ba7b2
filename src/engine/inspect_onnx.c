/* inspect_onnx.c - an ONNX graph → a JSON description: of an .onnx file, or of a folder of ONNX Runtime GenAI. External files may be
 * missing.
 *   decoder      {type, layers, width, heads, kv_heads, head_size, vocabulary, context} as genai_config.json says
 *   graph        {nodes, tensors, weights, bytes}: weights are the numbers of matrices
 *   operators    [{operator, nodes}], quantised [{operator, bits, block, zero_points, matrices, weights, bytes}]
 *   types        [{type, tensors, bytes}]
 *   memory       {weights_mapped_bytes, packed_q4_bytes, packed_q8_bytes, kv_token_bf16_bytes, context, kv_context_bytes,
 *                 needed_q4_bytes, needed_q8_bytes, available_bytes, limit}
 *   files        [{name, bytes, needed_bytes, state}], state "complete", "incomplete" or "missing"; missing [name, ...] */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "engine/inspect_parts.h"
#include "formats/onnx.h"
#include "kernels/kernels.h"

enum { MAX_ROWS = 64, CONTEXT = 4096, MAX_CONFIG = 16 << 20 };

static json_t *add(struct builder *b, json_t *list)
{
    json_t *row = json_object();
    push(b, list, row);
    return row;
}

static void count(struct builder *b, json_t *row, const char *key, uint64_t more)
{
    if (!b->failed)
        put(b, row, key, number((uint64_t)json_integer_value(json_object_get(row, key)) + more));
}

/* The row of a list whose texts under `keys` are `values`, new if need be; beyond MAX_ROWS everything is counted in the last. */
static json_t *row_of(struct builder *b, json_t *list, const char *const *keys, const char *const *values, size_t n)
{
    size_t rows = b->failed ? 0 : json_array_size(list);
    for (size_t i = 0; i < rows; i++) {
        json_t *row = json_array_get(list, i);
        size_t same = 0;
        for (; same < n; same++) {
            const char *s = json_string_value(json_object_get(row, keys[same]));
            if (!s || strcmp(s, values[same]) != 0)
                break;
        }
        if (same == n || i + 1 == MAX_ROWS)
            return row;
    }
    json_t *row = add(b, list);
    for (size_t i = 0; i < n; i++)
        put(b, row, keys[i], qvl_inspect_text(values[i]));
    return row;
}

/* ---------------------------------------------------------------- the graph */

static uint64_t elements(const struct qvl_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (uint64_t)t->shape[i]; /* the product was checked when the file was opened */
    return n;
}

static uint64_t bytes_of(const struct qvl_tensor *t) { return t ? t->bytes : 0; }

/* Zero points as a third or fourth input: none, codes, or numbers. */
static const char *zero_points(const struct qvl_tensor *t)
{
    if (!t)
        return "none";
    return !strncmp(t->type_name, "FLOAT", 5) || !strncmp(t->type_name, "BFLOAT", 6) ? "floats" : "codes";
}

/* Codes of a weight-only quantised operator: 0 for others. Returns its number of weights. */
static uint64_t quantised(struct builder *b, json_t *list, const struct qvl_onnx *o, const struct qvl_onnx_node *n)
{
    static const char *const keys[] = {"operator", "bits", "block", "zero_points"};
    int matmul = !strcmp(n->op, "MatMulNBits"), linear = !strcmp(n->op, "DequantizeLinear");
    const struct qvl_tensor *codes = qvl_onnx_input_tensor(o, n, matmul ? 1 : 0), *scales, *zeros;
    char bits[24], block[24];
    if ((!matmul && !linear && strcmp(n->op, "GatherBlockQuantized") != 0) || !codes || codes->rank < 2)
        return 0;
    scales = qvl_onnx_input_tensor(o, n, matmul || !linear ? 2 : 1);
    zeros = qvl_onnx_input_tensor(o, n, matmul || !linear ? 3 : 2);
    int64_t width = qvl_onnx_attr_int(n, "bits", strchr(codes->type_name, '4') ? 4 : linear ? 8 : 4);
    int64_t rows = qvl_onnx_attr_int(n, "N", 0), columns = qvl_onnx_attr_int(n, "K", 0);
    uint64_t weights = elements(codes);
    if (matmul && rows > 0 && columns > 0 && rows <= INT32_MAX && columns <= INT32_MAX)
        weights = (uint64_t)rows * (uint64_t)columns; /* rows are padded to whole blocks */
    else if (!linear && codes->type == QVL_DT_U8 && width > 0 && width < 8)
        weights = codes->bytes * 8 / (uint64_t)width;
    snprintf(bits, sizeof bits, "%lld", (long long)width);
    snprintf(block, sizeof block, "%lld", (long long)qvl_onnx_attr_int(n, "block_size", 0));
    json_t *row = row_of(b, list, keys, (const char *const[]){n->op, bits, block, zero_points(zeros)}, 4);
    count(b, row, "matrices", 1);
    count(b, row, "weights", weights);
    count(b, row, "bytes", codes->bytes + bytes_of(scales) + bytes_of(zeros));
    return weights;
}

/* Returns the weights of all matrices, quantised or not; *mapped: the bytes of all tensors. */
static uint64_t put_graph(struct builder *b, json_t *root, const struct qvl_onnx *o, uint64_t *mapped)
{
    static const char *const op_key[] = {"operator"}, *const type_key[] = {"type"};
    const struct qvl_tensors *t = qvl_onnx_tensors(o);
    json_t *graph = json_object(), *ops = json_array(), *quant = json_array(), *types = json_array();
    uint64_t weights = 0, bytes = 0;
    put(b, root, "graph", graph);
    put(b, root, "operators", ops);
    put(b, root, "quantised", quant);
    put(b, root, "types", types);
    for (size_t i = 0; i < qvl_onnx_count(o); i++) {
        const struct qvl_onnx_node *n = qvl_onnx_node(o, i);
        count(b, row_of(b, ops, op_key, &n->op, 1), "nodes", 1);
        weights += quantised(b, quant, o, n);
    }
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        json_t *row = row_of(b, types, type_key, &x->type_name, 1);
        count(b, row, "tensors", 1);
        count(b, row, "bytes", x->bytes);
        bytes += x->bytes;
        if (x->rank == 2 && (x->type == QVL_DT_F32 || x->type == QVL_DT_F16 || x->type == QVL_DT_BF16) && x->shape[0] > 1 &&
            !strstr(x->name, "scale") && !strstr(x->name, "cache"))
            weights += elements(x);
    }
    put(b, graph, "nodes", number(qvl_onnx_count(o)));
    put(b, graph, "tensors", number(qvl_tensors_count(t)));
    put(b, graph, "weights", number(weights));
    put(b, graph, "bytes", number(bytes));
    *mapped = bytes;
    return weights;
}

/* ---------------------------------------------------------------- files */

/* The model file and its external ones, with what the tensors need of each. */
static void put_graph_files(struct builder *b, json_t *files, json_t *missing, const struct qvl_onnx *o)
{
    const struct qvl_tensors *t = qvl_onnx_tensors(o);
    const char *path;
    uint64_t bytes;
    for (size_t i = 0; (path = qvl_tensors_file(t, i, &bytes)) != NULL; i++) {
        uint64_t need = i ? 0 : bytes;
        for (size_t k = 0; i && k < qvl_tensors_count(t); k++) {
            const struct qvl_tensor *x = qvl_tensors_at(t, k);
            if (!strcmp(x->file, path) && x->offset + x->bytes > need)
                need = x->offset + x->bytes;
        }
        const char *state = !qvl_file_exists(path) ? "missing" : bytes < need ? "incomplete" : "complete";
        json_t *row = add(b, files);
        put(b, row, "name", qvl_inspect_text(qvl_path_base(path)));
        put(b, row, "bytes", number(bytes));
        put(b, row, "needed_bytes", number(need));
        put(b, row, "state", json_string(state));
        if (*state != 'c')
            push(b, missing, qvl_inspect_text(qvl_path_base(path)));
    }
}

/* ---------------------------------------------------------------- genai_config.json */

static int64_t integer(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) < 1 << 24 ? json_integer_value(v) : 0;
}

static void put_decoder(struct builder *b, json_t *root, const json_t *config)
{
    static const char *const keys[][2] = {{"num_hidden_layers", "layers"}, {"hidden_size", "width"}, {"num_attention_heads", "heads"},
                                          {"num_key_value_heads", "kv_heads"}, {"head_size", "head_size"}};
    const json_t *model = json_object_get(config, "model"), *d = json_object_get(model, "decoder");
    const char *type = json_string_value(json_object_get(model, "type"));
    json_t *o = json_object();
    put(b, root, "decoder", o);
    put(b, o, "type", type ? qvl_inspect_text(type) : json_null());
    for (size_t i = 0; i < QVL_COUNT(keys); i++)
        put(b, o, keys[i][1], integer(d, keys[i][0]) ? json_integer(integer(d, keys[i][0])) : json_null());
    put(b, o, "vocabulary", integer(model, "vocab_size") ? json_integer(integer(model, "vocab_size")) : json_null());
    put(b, o, "context", integer(model, "context_length") ? json_integer(integer(model, "context_length")) : json_null());
}

/* What packing takes: 4.5 and 8.5 bits a weight (kernels/quant.h). */
static void put_memory(struct builder *b, json_t *root, uint64_t weights, uint64_t mapped, const json_t *config)
{
    const json_t *model = json_object_get(config, "model"), *d = json_object_get(model, "decoder");
    int64_t layers = integer(d, "num_hidden_layers"), heads = integer(d, "num_key_value_heads"), size = integer(d, "head_size");
    int64_t limit = integer(model, "context_length"), context = limit && limit < CONTEXT ? limit : CONTEXT;
    int known = layers && layers <= 1024 && heads && heads <= 1024 && size && size <= 256;
    uint64_t both = 2 * (uint64_t)layers * (uint64_t)heads, kv = known ? qvl_kv_bytes(QVL_KV_BF16, (int)size, context) * both : 0;
    uint64_t q4 = weights / 16 * 9, q8 = weights / 16 * 17;
    struct qvl_memory m;
    json_t *o = json_object();
    qvl_memory_get(&m);
    put(b, root, "memory", o);
    put(b, o, "weights_mapped_bytes", number(mapped));
    put(b, o, "packed_q4_bytes", number(q4));
    put(b, o, "packed_q8_bytes", number(q8));
    if (known) {
        put(b, o, "kv_token_bf16_bytes", number(qvl_kv_bytes(QVL_KV_BF16, (int)size, 16) / 16 * both));
        put(b, o, "context", json_integer(context));
        put(b, o, "kv_context_bytes", number(kv));
    }
    put(b, o, "needed_q4_bytes", number(q4 + kv));
    put(b, o, "needed_q8_bytes", number(q8 + kv));
    put(b, o, "available_bytes", m.available == UINT64_MAX ? json_null() : number(m.available));
    put(b, o, "limit", qvl_inspect_text(m.limit));
}

/* The graph's path: of the decoder that genai_config.json names, else model.onnx. From qvl_alloc. */
static char *model_path(const char *path, const json_t *config)
{
    const char *name = json_string_value(
        json_object_get(json_object_get(json_object_get(config, "model"), "decoder"), "filename"));
    if (!qvl_dir_exists(path))
        return qvl_strdup(path);
    return qvl_path_join(path, name && qvl_onnx_plain_name(name) ? name : "model.onnx");
}

/* genai_config.json of the folder, or beside the file; NULL when there is none. */
static int read_config(json_t **config, const char *path, qvl_err *err)
{
    const char *base = qvl_path_base(path);
    char *dir = qvl_dir_exists(path) ? qvl_strdup(path) : base == path ? qvl_strdup(".") : qvl_strndup(path, (size_t)(base - path));
    char *file = dir ? qvl_path_join(dir, "genai_config.json") : NULL;
    *config = NULL;
    int rc = file ? 0 : qvl_fail_nomem(err, strlen(path), path);
    if (rc == 0 && qvl_file_exists(file))
        rc = qvl_json_read(config, file, MAX_CONFIG, err);
    qvl_mem_free(file);
    qvl_mem_free(dir);
    return rc;
}

int qvl_inspect_onnx(json_t *root, const char *path, qvl_err *err)
{
    struct builder b = {0};
    struct qvl_onnx *o = NULL;
    json_t *config, *files, *missing;
    QVL_TRY(read_config(&config, path, err));
    char *file = model_path(path, config);
    int rc = file ? qvl_onnx_open_listed(&o, file, err) : qvl_fail_nomem(err, strlen(path), path);
    if (rc == 0) {
        put(&b, root, "name", qvl_inspect_text(qvl_path_base(path)));
        put(&b, root, "path", qvl_inspect_text(path));
        put(&b, root, "format", json_string("onnx"));
        if (config)
            put_decoder(&b, root, config);
        uint64_t mapped, weights = put_graph(&b, root, o, &mapped);
        put_memory(&b, root, weights, mapped, config);
        put(&b, root, "files", files = json_array());
        put(&b, root, "missing", missing = json_array());
        put_graph_files(&b, files, missing, o);
        if (!config)
            push(&b, missing, json_string("genai_config.json"));
        if (b.failed)
            rc = qvl_fail_nomem(err, 4096, "a description");
    }
    qvl_onnx_close(&o);
    qvl_mem_free(file);
    json_decref(config);
    return rc;
}
