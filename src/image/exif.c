/* exif.c - the orientation of a picture, from EXIF blocks and XMP packets; nothing else of them is read.
 *
 * Damaged metadata never makes a picture unreadable: the answer is then 1 (upright). */
#include "image/image_internal.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112u
#define ENTRY           12u /* bytes of a directory entry: tag, type, count, value or offset */
#define TYPE_SHORT      3u
#define TYPE_LONG       4u

struct tiff_view {
    const uint8_t *p;
    int big; /* byte order of the block: 1 = Motorola */
};

static uint32_t u16(const struct tiff_view *t, size_t at) { return t->big ? qvl_be16(t->p + at) : qvl_le16(t->p + at); }
static uint32_t u32(const struct tiff_view *t, size_t at) { return t->big ? qvl_be32(t->p + at) : qvl_le32(t->p + at); }

size_t qvl_tiff_tag(const uint8_t *tiff, size_t size, uint32_t tag, uint32_t *value)
{
    if (size < 8 + 2 + ENTRY || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 0;
    struct tiff_view t = {tiff, tiff[0] == 'M'};
    size_t ifd = u32(&t, 4);
    if (ifd > size - 2)
        return 0;
    size_t n = u16(&t, ifd), room = (size - ifd - 2) / ENTRY;
    for (size_t at = ifd + 2; n && room; at += ENTRY, n--, room--) {
        if (u16(&t, at) != tag)
            continue;
        uint32_t type = u16(&t, at + 2), count = u32(&t, at + 4);
        if ((type != TYPE_SHORT && type != TYPE_LONG) || !count)
            return 0;
        /* Values that do not fit into the entry's four bytes lie elsewhere. */
        size_t from = count <= (type == TYPE_SHORT ? 2 : 1) ? at + 8 : u32(&t, at + 8);
        if (from > size - 4)
            return 0;
        *value = type == TYPE_SHORT ? u16(&t, from) : u32(&t, from);
        return from;
    }
    return 0;
}

int qvl_tiff_directory_whole(const uint8_t *tiff, size_t size)
{
    static const uint8_t width[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8}; /* bytes of a value, by type */
    if (size < 8 + 2 + ENTRY)
        return 0;
    struct tiff_view t = {tiff, tiff[0] == 'M'};
    uint64_t ifd = u32(&t, 4);
    if (ifd > size - 2 || ifd + 2 + (uint64_t)u16(&t, (size_t)ifd) * ENTRY > size)
        return 0;
    for (size_t n = u16(&t, (size_t)ifd), at = (size_t)ifd + 2; n; n--, at += ENTRY) {
        uint32_t type = u16(&t, at + 2);
        uint64_t bytes = type < sizeof width ? (uint64_t)width[type] * u32(&t, at + 4) : 0;
        if (bytes > 4 && u32(&t, at + 8) + bytes > size)
            return 0;
    }
    return 1;
}

int qvl_exif_orientation(const uint8_t *exif, size_t size)
{
    uint32_t v = 0;
    while (size >= 6 && memcmp(exif, "Exif\0\0", 6) == 0) {
        exif += 6;
        size -= 6;
    }
    if (!qvl_tiff_tag(exif, size, TAG_ORIENTATION, &v))
        return 0;
    return v >= 1 && v <= 8 ? (int)v : 1;
}

int qvl_xmp_orientation(const uint8_t *xmp, size_t size)
{
    static const char key[] = "tiff:Orientation";
    const size_t len = sizeof key - 1;
    for (size_t i = 0; size >= len + 3 && i <= size - len - 3; i++) {
        if (xmp[i] != 't' || memcmp(xmp + i, key, len) != 0)
            continue;
        const uint8_t *p = xmp + i + len; /* ="6" as an attribute, >6< as an element */
        size_t skip = p[0] == '>' ? 1 : p[0] == '=' && p[1] == '"' ? 2 : 0;
        if (skip && p[skip] >= '1' && p[skip] <= '8')
            return p[skip] - '0';
    }
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int qvl_exif_from_hex(const char *text, size_t size)
{
    uint8_t exif[4096]; /* the first directory lies at the front */
    size_t at = 0, n = 0;
    int high = -1;
    for (int line = 0; line < 3; at++) { /* an empty line, the name, the length */
        if (at >= size)
            return 0;
        line += text[at] == '\n';
    }
    for (; at < size && n < sizeof exif; at++) {
        int v = hex_digit(text[at]);
        if (v < 0)
            continue;
        if (high >= 0)
            exif[n++] = (uint8_t)(high << 4 | v);
        high = high >= 0 ? -1 : v;
    }
    return qvl_exif_orientation(exif, n);
}


int qvl_exif_from_jpeg(const uint8_t *data, size_t size)
{
    static const char xmp_id[] = "http://ns.adobe.com/xap/1.0/"; /* its NUL belongs to it */
    int exif = 0, xmp = 0;
    size_t at = 2;
    while (at + 4 <= size && data[at] == 0xff) {
        uint8_t marker = data[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9) /* start of the coefficients, end of the picture */
            break;
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) { /* markers without a body */
            at += 2;
            continue;
        }
        size_t len = qvl_be16(data + at + 2);
        if (len < 2 || len > size - at - 2)
            break;
        const uint8_t *body = data + at + 4;
        if (marker == 0xe1 && !exif && len >= 8 && memcmp(body, "Exif\0\0", 6) == 0)
            exif = qvl_exif_orientation(body, len - 2);
        else if (marker == 0xe1 && !xmp && len - 2 > sizeof xmp_id && memcmp(body, xmp_id, sizeof xmp_id) == 0)
            xmp = qvl_xmp_orientation(body + sizeof xmp_id, len - 2 - sizeof xmp_id);
        at += 2 + len;
    }
    return exif ? exif : xmp; /* EXIF decides when it has the tag */
}

int qvl_exif_from_png(const uint8_t *data, size_t size)
{
    static const char xmp_id[] = "XML:com.adobe.xmp"; /* iTXt keyword; its NUL belongs to it */
    int exif = 0, xmp = 0;
    size_t at = 8;
    while (size - at >= 12 && at < size) {
        size_t len = qvl_be32(data + at);
        const uint8_t *type = data + at + 4, *body = data + at + 8;
        if (len > size - at - 12)
            break;
        if (memcmp(type, "eXIf", 4) == 0)
            exif = qvl_exif_orientation(body, len);
        else if (memcmp(type, "iTXt", 4) == 0 && len > sizeof xmp_id + 2 && memcmp(body, xmp_id, sizeof xmp_id) == 0 &&
                 body[sizeof xmp_id] == 0) /* uncompressed */
            xmp = qvl_xmp_orientation(body + sizeof xmp_id, len - sizeof xmp_id);
        at += 12 + len;
    }
    return exif ? exif : xmp;
}
