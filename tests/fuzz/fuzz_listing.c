/* A hub's list of files, and names of models: whatever comes through stays below its folder. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "hub/hub.h"
#include "hub/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int climbs(const char *path) { return path[0] == '/' || strncmp(path, "../", 3) == 0 || strstr(path, "/../") || strcmp(path, "..") == 0; }

static void name(const uint8_t *data, size_t size)
{
    struct qvl_hub_name n;
    char *text = qvl_strndup((const char *)data, size);
    if (!text)
        return;
    if (qvl_hub_name_parse(&n, text, NULL, NULL) == 0 && (!n.repo[0] || climbs(n.repo) || climbs(n.rev) || climbs(n.file) || strpbrk(n.quant, "/")))
        abort();
    qvl_mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_listing l;
    qvl_err err = {0};
    name(data, size);
    int rc = qvl_listing_parse(&l, (const char *)data, size, "fuzz", &err);
    if (rc != err.code || (rc && l.files))
        abort();
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (climbs(l.files[i].path) || !l.files[i].path[0] || (i && strcmp(l.files[i - 1].path, l.files[i].path) >= 0) ||
            (l.files[i].size != QVL_SIZE_UNKNOWN && l.files[i].size > (uint64_t)1 << 50))
            abort();
    qvl_listing_free(&l);
    return 0;
}
