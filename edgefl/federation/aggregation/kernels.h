/* The kernels for one instruction set: kernels.c includes this once for each, with LEVEL, LANES (floats in a register) and TILE
 * (sums are kept in TILE * TILE registers) set for it. */

typedef float NAME(vector) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* RUN rows, `stride` apart, such that each column's values ascend, to places. */
static inline void NAME(sorted)(const float *rows, long stride, float *places)
{
#pragma GCC ivdep
    for (long column = 0; column < BLOCK; column++) {
#define TAKE(i) float v##i = rows[i * stride + column];
#define ORDER(i, j)                                                                                                                \
    {                                                                                                                              \
        const float x = v##i, y = v##j;                                                                                            \
        v##i = x < y ? x : y;                                                                                                      \
        v##j = x < y ? y : x;                                                                                                      \
    }
#define PUT(i) places[i * BLOCK + column] = v##i;
        EACH(TAKE)
        SORT(ORDER)
        EACH(PUT)
#undef TAKE
#undef ORDER
#undef PUT
    }
}

/* `count` sums of `sources` rows, `stride` apart, times their weights, to places. */
static void NAME(mixed)(const float *rows, long stride, long sources, const float *weights, long count, float *places)
{
    for (long top = 0; top < count; top += TILE)
        for (long left = 0; left < BLOCK; left += 4 * LANES) {
            /* As in products, what lies behind the last row is left out. */
            const float *weight[TILE];
            for (long i = 0; i < TILE; i++)
                weight[i] = weights + (top + i < count ? top + i : count - 1) * sources;
            NAME(vector) sums[TILE][4] = {0};
            for (long source = 0; source < sources; source++)
                for (long i = 0; i < TILE; i++)
                    for (long j = 0; j < 4; j++)
                        sums[i][j] += weight[i][source] * *(const NAME(vector) *)(rows + source * stride + left + j * LANES);
            for (long i = 0; i < TILE && top + i < count; i++)
                for (long j = 0; j < 4; j++)
                    *(NAME(vector) *)(places + (top + i) * BLOCK + left + j * LANES) = sums[i][j];
        }
}

/* weights: where given, rows are `sources` and `count` mixtures of them are trimmed. runs: of RUN rows, sorted before the steps. */
static void NAME(trimmed)(const float *rows, long stride, long sources, long width, const float *weights, long count, long runs,
                          const struct step *steps, long length, long trim, float *out)
{
    float places[count * BLOCK] __attribute__((aligned(64)));
    float spare[weights ? sources * BLOCK : 1] __attribute__((aligned(64)));
    for (long left = 0; left < width; left += BLOCK) {
        const long here = width - left < BLOCK ? width - left : BLOCK;
        const float *from = rows + left;
        long apart = stride;
        if (weights || here < BLOCK) {
            float *copy = weights ? spare : places;
            for (long row = 0; row < sources; row++)
                for (long column = 0; column < BLOCK; column++)
                    copy[row * BLOCK + column] = column < here ? from[row * stride + column] : 0;
            if (weights)
                NAME(mixed)(copy, BLOCK, sources, weights, count, places);
            from = places;
            apart = BLOCK;
        }
        for (long run = 0; run < runs; run++)
            NAME(sorted)(from + run * RUN * apart, apart, places + run * RUN * BLOCK);
        for (long row = runs * RUN; row < count && from != places; row++)
            for (long column = 0; column < BLOCK; column++)
                places[row * BLOCK + column] = from[row * apart + column];
        /* What comes next is fetched meanwhile. */
        const long ahead = left + 2 * BLOCK <= width ? sources : 0;
        const float *next = rows + left + BLOCK;
        for (long step = 0; step < length; step++) {
            for (long row = step; row < ahead; row += length)
                for (long column = 0; column < BLOCK; column += LINE)
                    __builtin_prefetch(next + row * stride + column, 0, 2);
            float *a = places + steps[step].a * BLOCK, *b = places + steps[step].b * BLOCK;
            float *c = places + steps[step].c * BLOCK, *d = places + steps[step].d * BLOCK;
            switch (steps[step].kind) {
            case CROSSING:
#pragma GCC ivdep
                for (long column = 0; column < BLOCK; column++) {
                    const float w = a[column], x = b[column], y = c[column], z = d[column];
                    const float left_low = w < y ? w : y, left_high = w < y ? y : w;
                    const float right_low = x < z ? x : z, right_high = x < z ? z : x;
                    a[column] = left_low;
                    b[column] = left_high < right_low ? left_high : right_low;
                    c[column] = left_high < right_low ? right_low : left_high;
                    d[column] = right_high;
                }
                break;
            case BOTH:
#pragma GCC ivdep
                for (long column = 0; column < BLOCK; column++) {
                    const float x = a[column], y = b[column];
                    a[column] = x < y ? x : y;
                    b[column] = x < y ? y : x;
                }
                break;
            case LOW:
#pragma GCC ivdep
                for (long column = 0; column < BLOCK; column++)
                    a[column] = a[column] < b[column] ? a[column] : b[column];
                break;
            case HIGH:
#pragma GCC ivdep
                for (long column = 0; column < BLOCK; column++)
                    b[column] = a[column] < b[column] ? b[column] : a[column];
                break;
            }
        }
        float total[BLOCK] = {0};
        for (long row = trim; row < count - trim; row++)
            for (long column = 0; column < BLOCK; column++)
                total[column] += places[row * BLOCK + column];
        for (long column = 0; column < here; column++)
            out[left + column] = total[column] * (1.0f / (count - 2 * trim));
    }
}

static inline float NAME(sum)(NAME(vector) values)
{
    typedef float four __attribute__((vector_size(16), aligned(4)));
    union { NAME(vector) whole; four parts[LANES / 4]; } lanes = {values};
    four total = lanes.parts[0];
    for (long part = 1; part < LANES / 4; part++)
        total += lanes.parts[part];
    return (total[0] + total[1]) + (total[2] + total[3]);
}

static void NAME(products)(const float *rows, long stride, long count, long width, double *out)
{
    for (long left = 0; left < width; left += PANEL) {
        const long here = width - left < PANEL ? width - left : PANEL, even = here / LANES * LANES;
        long tile = 0;
        for (long top = 0; top < count; top += TILE)
            for (long side = top; side < count; side += TILE, tile++) {
                /* Where rows end within a tile, the last one is taken again and its products are left out. */
                const float *a[TILE], *b[TILE];
                for (long i = 0; i < TILE; i++) {
                    a[i] = rows + (top + i < count ? top + i : count - 1) * stride + left;
                    b[i] = rows + (side + i < count ? side + i : count - 1) * stride + left;
                }
                /* What comes next is fetched meanwhile, a row with each tile. */
                const float *next = tile < count && left + 2 * PANEL <= width ? rows + tile * stride + left + PANEL : a[0];
                NAME(vector) sums[TILE][TILE] = {0};
                for (long column = 0; column < even; column += LANES) {
                    __builtin_prefetch(next + column, 0, 2);
                    for (long i = 0; i < TILE; i++)
                        for (long j = 0; j < TILE; j++)
                            sums[i][j] += *(const NAME(vector) *)(a[i] + column) * *(const NAME(vector) *)(b[j] + column);
                }
                for (long i = 0; i < TILE && top + i < count; i++)
                    for (long j = 0; j < TILE && side + j < count; j++) {
                        float product = NAME(sum)(sums[i][j]);
                        for (long column = even; column < here; column++)
                            product += a[i][column] * b[j][column];
                        out[(top + i) * count + side + j] += product;
                    }
            }
    }
    for (long row = 0; row < count; row++)
        for (long column = 0; column < row; column++)
            out[row * count + column] = out[column * count + row];
}

static void NAME(weighted)(const float *rows, long stride, long count, long width, const float *weights, float *out)
{
    for (long left = 0; left < width; left += PANEL) {
        const long here = width - left < PANEL ? width - left : PANEL;
        float total[PANEL] = {0};
        for (long row = 0; row < count; row++)
            if (weights[row] != 0)
                for (long column = 0; column < here; column++)
                    total[column] += weights[row] * rows[row * stride + left + column];
        for (long column = 0; column < here; column++)
            out[left + column] = total[column];
    }
}
