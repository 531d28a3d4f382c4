// Goal: the same input gives the same bytes; what is written is read back; a merge is a build of the union; no damage to
// a section leads a search astray.
// Method: builds with one to four threads, compared byte by byte; parts of a set, their rows strewn over the whole, are
// merged and compared with a build of the whole. Damage: every word of each head, and hundreds of random words of the
// other sections, written over; what is not refused is searched, under the address sanitizer where that is on.
#include "ivf_testing.h"

#include "index/segment/segment_internal.h"

#include <unistd.h>

static rag_ivf_scratch *scratch;
static rag_index_hit hits[RAG_INDEX_K_MAX];

static int setup(void **state) {
  RAG_UNUSED(state);
  return rag_ivf_scratch_create(&scratch, NULL) != RAG_OK;
}
static int teardown(void **state) {
  RAG_UNUSED(state);
  rag_ivf_scratch_destroy(scratch);
  return 0;
}

// ---------------------------------------------------------------------------------------------- determinism

static void test_threads_do_not_matter(void **state) {
  RAG_UNUSED(state);
  static const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows r = make_rows(CLUSTERED, 3001, 70, metrics[m], 40, 6);
    rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
    rag_ivf_centroids *first_centroids = NULL;
    rag_ivf *first = NULL;
    for (uint32_t threads = 1; threads <= 4; threads++) {
      rag_ivf_centroids *centroids = train(&r, 50, threads);
      rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.threads = threads, .sample = 50, .fetch = &fetch});
      if (!first) {
        first = ivf;
        first_centroids = centroids;
        continue;
      }
      assert_true(rag_slice_equal(rag_ivf_centroids_section(centroids), rag_ivf_centroids_section(first_centroids)));
      assert_same_ivf(ivf, first);
      rag_ivf_destroy(ivf);
      rag_ivf_centroids_destroy(centroids);
    }
    rag_ivf_destroy(first);
    rag_ivf_centroids_destroy(first_centroids);
    free_rows(&r);
  }
}

// ---------------------------------------------------------------------------------------------- files

static void test_written_and_read(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 2000, 70, RAG_METRIC_COSINE, 30, 6);
  rag_ivf_centroids *centroids = train(&r, 40, 1), *read_centroids = NULL;
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.sample = 50}), *read = NULL;
  char path[] = "/tmp/ragd-ivf-XXXXXX";
  assert_non_null(mkdtemp(path));
  char name[64];
  snprintf(name, sizeof name, "%s/segment", path);
  rag_slice sections[RAG_IVF_SECTIONS], section = rag_ivf_centroids_section(centroids), got[RAG_IVF_SECTIONS];
  rag_ivf_sections(ivf, sections);
  uint64_t bytes = 0;
  for (int i = 0; i < RAG_IVF_SECTIONS; i++) bytes += sections[i].size;
  assert_int_equal(rag_ivf_bytes(ivf), bytes);
  segment_writer *writer = NULL;
  segment_file *file = NULL;
  assert_int_equal(rag_segment__writer_create(name, &writer, NULL), RAG_OK);
  for (uint32_t i = 0; i <= RAG_IVF_SECTIONS; i++) {
    rag_slice s = i < RAG_IVF_SECTIONS ? sections[i] : section;
    assert_int_equal(rag_segment__writer_section(writer, i + 1, NULL), RAG_OK);
    assert_int_equal(rag_segment__writer_append(writer, s.data, s.size, NULL), RAG_OK);
  }
  assert_int_equal(rag_segment__writer_finish(writer, "ivf", 3, NULL), RAG_OK);
  assert_int_equal(rag_segment__file_open(name, &file, NULL), RAG_OK);
  assert_int_equal(rag_segment__file_verify(file, 0, rag_segment__file_blocks(file), NULL), RAG_OK);
  for (uint32_t i = 0; i < RAG_IVF_SECTIONS; i++) got[i] = rag_segment__file_section(file, i + 1);
  rag_slice got_centroids = rag_segment__file_section(file, RAG_IVF_SECTIONS + 1);
  assert_int_equal(rag_ivf_centroids_open(got_centroids, 70, RAG_METRIC_COSINE, &read_centroids, NULL), RAG_OK);
  assert_int_equal(rag_ivf_open(got, read_centroids, 2000, &read, NULL), RAG_OK);
  assert_same_ivf(ivf, read);
  for (uint32_t i = 0; i < 20; i++) {
    const float *query = r.data + (size_t)i * 97 * 70;
    rag_index_hit own[10];
    ask_ivf(ivf, &r, scratch, query, 10, 5, NULL, own);
    ask_ivf(read, &r, scratch, query, 10, 5, NULL, hits);
    assert_memory_equal(own, hits, sizeof own);
  }
  // Sections of other rows, spaces and centroids are refused.
  rag_ivf *none = NULL;
  rag_ivf_centroids *no_centroids = NULL;
  rag_error err;
  assert_int_equal(rag_ivf_open(got, read_centroids, 1999, &none, &err), RAG_DATA_LOSS);
  assert_int_equal(rag_ivf_centroids_open(got_centroids, 71, RAG_METRIC_COSINE, &no_centroids, &err), RAG_DATA_LOSS);
  assert_int_equal(rag_ivf_centroids_open(got_centroids, 70, RAG_METRIC_L2, &no_centroids, &err), RAG_DATA_LOSS);
  rag_ivf_centroids *others = train(&r, 41, 1);
  assert_int_equal(rag_ivf_open(got, others, 2000, &none, &err), RAG_DATA_LOSS);
  assert_non_null(strstr(err.message, "centroids"));
  assert_true(!none && !no_centroids);
  rag_ivf_centroids_destroy(others);
  rag_ivf_destroy(read);
  rag_ivf_centroids_destroy(read_centroids);
  rag_segment__file_close(file);
  assert_int_equal(unlink(name), 0);
  assert_int_equal(rmdir(path), 0);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- damage

typedef struct copies {
  char *data[RAG_IVF_SECTIONS];
  rag_slice slices[RAG_IVF_SECTIONS];
} copies;

static copies copy_sections(const rag_ivf *ivf) { // in blocks of their own: what reads past an end is seen
  copies c;
  rag_slice sections[RAG_IVF_SECTIONS];
  rag_ivf_sections(ivf, sections);
  for (int i = 0; i < RAG_IVF_SECTIONS; i++) {
    c.data[i] = malloc(sections[i].size + 1);
    assert_non_null(c.data[i]);
    memcpy(c.data[i], sections[i].data, sections[i].size);
    c.slices[i] = rag_slice_of(c.data[i], sections[i].size);
  }
  return c;
}
static void free_copies(copies *c) {
  for (int i = 0; i < RAG_IVF_SECTIONS; i++) free(c->data[i]);
}

// Searched every way; any answer will do that has rows of the segment.
static void search_all_ways(const rag_ivf *ivf, rows *r) {
  rag_ivf_codes codes = codes_of(r);
  uint64_t half[2000 / 64 + 1], few[2000 / 64 + 1] = {0};
  memset(half, 0x55, sizeof half);
  half[2000 / 64] &= (1ull << 2000 % 64) - 1;
  few[3] = 0xff;
  const uint64_t *filters[] = {NULL, half, few};
  for (size_t f = 0; f < RAG_COUNT_OF(filters); f++) {
    rag_index_topk top;
    rag_index__topk_init(&top, hits, 20, -FLT_MAX);
    rag_ivf_query q = {.vector = r->data + 70 * f,
                       .k = 20,
                       .nprobe = 6,
                       .filter = filters[f],
                       .survivors = filters[f] ? count_bits(filters[f], r->count) : 0,
                       .fetch = {.rows = fetch_row, .context = r}};
    assert_int_equal(rag_ivf_search(ivf, &codes, &q, scratch, &top, NULL, NULL), RAG_OK);
    rag_index__topk_finish(&top);
    for (uint32_t i = 0; i < top.count; i++) assert_true(hits[i].ordinal < r->count);
  }
  bool reached;
  assert_true(rag_ivf_nprobe(ivf, 10, 0.98f, &reached) <= ivf->meta.lists);
  assert_true(rag_ivf_drift(ivf) >= 0);
  rag_ivf_cost cost = rag_ivf_estimate(ivf, 10, true, 100);
  assert_true(cost.probe > 0 && cost.scan > 0);
}

static void test_damage(void **state) {
  RAG_UNUSED(state);
  static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7f800000, 0x7fc00000, 1999, 2000, 4001};
  rows r = make_rows(CLUSTERED, 2000, 70, RAG_METRIC_COSINE, 30, 6);
  rag_ivf_centroids *centroids = train(&r, 40, 1);
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.sample = 50});
  uint64_t state_of = 4;
  uint32_t refused = 0, harmless = 0;
  for (int section = 0; section < RAG_IVF_SECTIONS; section++) {
    copies c = copy_sections(ivf);
    uint32_t words = (uint32_t)(c.slices[section].size / 4), turns = section == RAG_IVF_META ? words : 300;
    for (uint32_t turn = 0; turn < turns; turn++) {
      uint32_t at = section == RAG_IVF_META ? turn : random_below(&state_of, words), before;
      memcpy(&before, c.data[section] + at * 4, 4);
      for (size_t v = 0; v <= RAG_COUNT_OF(values); v++) {
        uint32_t bad = v < RAG_COUNT_OF(values) ? values[v] : before ^ 1u << random_below(&state_of, 32);
        memcpy(c.data[section] + at * 4, &bad, 4);
        rag_ivf *opened = NULL;
        rag_error err = {0};
        rag_status status = rag_ivf_open(c.slices, centroids, 2000, &opened, &err);
        if (status == RAG_OK) {
          search_all_ways(opened, &r);
          rag_ivf_destroy(opened);
          harmless++;
        } else {
          assert_int_equal(status, RAG_DATA_LOSS);
          assert_true(!opened && err.message[0]);
          refused++;
        }
      }
      memcpy(c.data[section] + at * 4, &before, 4);
    }
    // Cut off, or longer.
    c.slices[section].size -= 4;
    rag_ivf *opened = NULL;
    assert_int_equal(rag_ivf_open(c.slices, centroids, 2000, &opened, NULL), RAG_DATA_LOSS);
    c.slices[section].size = 0;
    assert_int_equal(rag_ivf_open(c.slices, centroids, 2000, &opened, NULL), RAG_DATA_LOSS);
    free_copies(&c);
  }
  assert_true(refused > 1000 && harmless > 1000);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

static void test_damaged_centroids(void **state) {
  RAG_UNUSED(state);
  static const uint32_t values[] = {0,          1,          0x7fffffff, 0xffffffff, 0x7f800000,
                                    0x7fc00000, 0x7f7fffff, 0xff7fffff, 65537};
  rows r = make_rows(CLUSTERED, 2000, 70, RAG_METRIC_L2, 30, 6);
  rag_ivf_centroids *centroids = train(&r, 40, 1);
  rag_slice section = rag_ivf_centroids_section(centroids);
  char *copy = malloc(section.size);
  assert_non_null(copy);
  memcpy(copy, section.data, section.size);
  uint32_t words = (uint32_t)(section.size / 4), refused = 0, used = 0;
  uint64_t random = 3;
  for (uint32_t turn = 0; turn < 140; turn++) {
    // The head, the radii, then any word.
    uint32_t at = turn < 16 ? turn : turn < 56 ? words - 40 + turn - 16 : random_below(&random, words), before;
    memcpy(&before, copy + at * 4, 4);
    for (size_t v = 0; v < RAG_COUNT_OF(values); v++) {
      memcpy(copy + at * 4, &values[v], 4);
      rag_ivf_centroids *opened = NULL;
      rag_status status = rag_ivf_centroids_open(rag_slice_of(copy, section.size), 70, RAG_METRIC_L2, &opened, NULL);
      assert_true(status == RAG_OK || status == RAG_DATA_LOSS);
      refused += status != RAG_OK;
      if (status != RAG_OK) continue;
      rag_ivf *ivf = build_ivf(opened, &r, &(rag_ivf_options){0});
      assert_lists_sound(ivf);
      search_all_ways(ivf, &r);
      rag_ivf_destroy(ivf);
      rag_ivf_centroids_destroy(opened);
      used++;
    }
    memcpy(copy + at * 4, &before, 4);
  }
  rag_ivf_centroids *opened = NULL;
  for (size_t size = 0; size < section.size; size += 1 + size / 3) {
    assert_int_equal(rag_ivf_centroids_open(rag_slice_of(copy, size), 70, RAG_METRIC_L2, &opened, NULL), RAG_DATA_LOSS);
  }
  assert_true(refused > 100 && used > 100);
  free(copy);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- merge

// The rows of `whole` that `of` says belong to `part`, in order; their places in map.
static rows take_part(const rows *whole, const uint32_t *of, uint32_t part, uint32_t *map) {
  rows r = make_rows(RANDOM, 0, whole->dimension, whole->metric, 1, 1);
  free_rows(&r);
  uint32_t bytes = rag_codes_int8_bytes(whole->dimension);
  r.data = malloc(((size_t)whole->count * whole->dimension + 1) * sizeof *r.data);
  r.code = malloc((size_t)whole->count * bytes + 1);
  r.factors = malloc((whole->count + 1) * sizeof *r.factors);
  assert_true(r.data && r.code && r.factors);
  for (uint32_t i = 0; i < whole->count; i++) {
    if (of[i] != part) continue;
    memcpy(r.data + (size_t)r.count * r.dimension, whole->data + (size_t)i * r.dimension, r.dimension * sizeof *r.data);
    memcpy(r.code + (size_t)r.count * bytes, whole->code + (size_t)i * bytes, bytes);
    r.factors[r.count] = whole->factors[i];
    map[r.count++] = i;
  }
  r.codes = (rag_graph_codes){r.code, bytes, r.factors, r.count, r.dimension, r.metric};
  return r;
}

#define PARTS 4u

static void test_merge(void **state) {
  RAG_UNUSED(state);
  static const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    for (int strewn = 0; strewn < 2; strewn++) {
      rows whole = make_rows(CLUSTERED, 2500, 70, metrics[m], 30, 6);
      rag_ivf_centroids *centroids = train(&whole, 40, 1);
      rag_ivf_options options = {.sample = 60, .seed = 3};
      rag_ivf *all = build_ivf(centroids, &whole, &options), *merged = NULL;
      uint32_t *of = malloc(whole.count * sizeof *of), *maps[PARTS];
      assert_non_null(of);
      uint64_t random = 5;
      for (uint32_t i = 0; i < whole.count; i++) { // the third part has no rows
        of[i] = strewn ? random_below(&random, PARTS) : i * PARTS / whole.count;
        if (of[i] == 2) of[i] = strewn ? 0 : 3;
      }
      rows parts[PARTS];
      rag_ivf_input inputs[PARTS];
      for (uint32_t p = 0; p < PARTS; p++) {
        maps[p] = malloc((whole.count + 1) * sizeof *maps[p]);
        assert_non_null(maps[p]);
        parts[p] = take_part(&whole, of, p, maps[p]);
        inputs[p] = (rag_ivf_input){build_ivf(centroids, &parts[p], &options), maps[p]};
      }
      rag_error err = {0};
      rag_ivf_codes codes = codes_of(&whole);
      if (rag_ivf_merge(centroids, inputs, PARTS, whole.count, &codes, &options, &merged, &err) != RAG_OK) {
        fail_msg("merge: %s", err.message);
      }
      assert_lists_sound(merged);
      assert_same_ivf(merged, all);
      rag_ivf_destroy(merged);
      // Without the codes the calibration is that of the largest part.
      assert_int_equal(rag_ivf_merge(centroids, inputs, PARTS, whole.count, NULL, NULL, &merged, NULL), RAG_OK);
      uint32_t largest = 0;
      for (uint32_t p = 1; p < PARTS; p++) {
        if (parts[p].count > parts[largest].count) largest = p;
      }
      assert_memory_equal(merged->meta.rungs, inputs[largest].ivf->meta.rungs, sizeof merged->meta.rungs);
      assert_int_equal(merged->meta.rung_count, inputs[largest].ivf->meta.rung_count);
      assert_int_equal(ask_ivf(merged, &whole, scratch, whole.data, 2500, 1, NULL, hits).count, 2500);
      rag_ivf_destroy(merged);
      for (uint32_t p = 0; p < PARTS; p++) {
        rag_ivf_destroy((rag_ivf *)(uintptr_t)inputs[p].ivf);
        free_rows(&parts[p]);
        free(maps[p]);
      }
      free(of);
      rag_ivf_destroy(all);
      rag_ivf_centroids_destroy(centroids);
      free_rows(&whole);
    }
  }
}

// Rows that the map leaves out are gone, and the others move up.
static void test_merge_drops(void **state) {
  RAG_UNUSED(state);
  rows whole = make_rows(CLUSTERED, 2500, 70, RAG_METRIC_L2, 30, 6);
  rag_ivf_centroids *centroids = train(&whole, 40, 1);
  rag_ivf *all = build_ivf(centroids, &whole, &(rag_ivf_options){0}), *merged = NULL;
  uint32_t *of = malloc(2500 * sizeof *of), *map = malloc(2500 * sizeof *map), *places = malloc(2500 * sizeof *places);
  assert_true(of && map && places);
  for (uint32_t keep = 0; keep < 3; keep++) { // none, a third, all
    uint32_t kept = 0;
    for (uint32_t i = 0; i < 2500; i++) {
      of[i] = keep == 0 || (keep == 1 && i % 3 != 1) ? 1 : 0;
      map[i] = of[i] == 0 ? kept++ : RAG_IVF_NONE;
    }
    rows left = take_part(&whole, of, 0, places);
    rag_ivf *built = build_ivf(centroids, &left, &(rag_ivf_options){0});
    assert_int_equal(rag_ivf_merge(centroids, &(rag_ivf_input){all, map}, 1, kept, NULL, NULL, &merged, NULL), RAG_OK);
    assert_same_ivf(merged, built);
    rag_ivf_destroy(merged);
    rag_ivf_destroy(built);
    free_rows(&left);
  }
  // Maps that make a row twice, past the end, or not at all.
  rag_error err;
  for (uint32_t i = 0; i < 2500; i++) map[i] = i;
  map[7] = 8;
  merged = NULL;
  const rag_ivf_input input = {all, map};
  assert_int_equal(rag_ivf_merge(centroids, &input, 1, 2500, NULL, NULL, &merged, &err), RAG_INVALID_ARGUMENT);
  map[7] = 2500;
  assert_int_equal(rag_ivf_merge(centroids, &input, 1, 2500, NULL, NULL, &merged, &err), RAG_INVALID_ARGUMENT);
  map[7] = RAG_IVF_NONE;
  assert_int_equal(rag_ivf_merge(centroids, &input, 1, 2500, NULL, NULL, &merged, &err), RAG_INVALID_ARGUMENT);
  map[7] = 7;
  rag_ivf_centroids *others = train(&whole, 39, 1);
  assert_int_equal(rag_ivf_merge(others, &input, 1, 2500, NULL, NULL, &merged, &err), RAG_FAILED_PRECONDITION);
  assert_int_equal(rag_ivf_merge(centroids, &input, RAG_IVF_INPUTS_MAX + 1, 2500, NULL, NULL, &merged, &err),
                   RAG_INVALID_ARGUMENT);
  assert_null(merged);
  // No input makes no rows.
  assert_int_equal(rag_ivf_merge(centroids, NULL, 0, 0, NULL, NULL, &merged, &err), RAG_OK);
  assert_int_equal(merged->meta.entries, 0);
  rag_ivf_destroy(merged);
  rag_ivf_centroids_destroy(others);
  free(of);
  free(map);
  free(places);
  rag_ivf_destroy(all);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_threads_do_not_matter),
      cmocka_unit_test(test_written_and_read),
      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_damaged_centroids),
      cmocka_unit_test(test_merge),
      cmocka_unit_test(test_merge_drops),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
