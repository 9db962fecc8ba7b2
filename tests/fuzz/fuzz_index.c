/* model.safetensors.index.json: the names it lets through must be plain names of files in the same folder. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_st_index x;
    qvl_err err = {0};
    int rc = qvl_st_index_parse(&x, (const char *)data, size, "fuzz", &err);
    if (rc != err.code || (rc && x.root))
        abort();
    if (rc)
        return 0;
    if (!x.n_shards || x.n_shards > json_object_size(x.map))
        abort();
    for (size_t i = 0; i < x.n_shards; i++)
        if (strpbrk(x.shards[i], "/\\:\n") || x.shards[i][0] == '.' || !x.shards[i][0] ||
            (i && strcmp(x.shards[i - 1], x.shards[i]) >= 0))
            abort();
    qvl_st_index_free(&x);
    return 0;
}
