// Goal: every rule of the text analysis, as index.h states it, for each kind of word, script and language.
// Method: short texts with their golden tokens (analysis_testing.h has the notation); offsets spelled out where they
// are the rule; long words at their limits and one past them. The random tests are in test_analysis_random.c.
#include "tests/index/analysis_testing.h"

static void prose(void **state) {
  RAG_UNUSED(state);
  assert_tokens("en", "", "");
  assert_tokens("en", " \t\n.,;-()!?--'\"*&@#+", "");
  assert_tokens("en", "The connections were refused, twice.", "the~ connect were~ refus twice");
  assert_tokens("en", "Dogs' don't O'Reilly’s 'quoted'", "dog dont oreilli quot");
  assert_tokens("en", "IT it WHO", "it~^ it~ who~^");
  assert_tokens("en", "co\u00ADoperate cafe\u0301 CAFÉ Ångström", "cooper cafe cafe angstrom");
}

static void numbers_and_codes(void **state) {
  RAG_UNUSED(state);
  assert_tokens("en", "3.14 1.2.3 192.168.0.1 1,234,567.5 12,34 1,2345 1234,567 1.5,000 5.",
                "3.14 1.2.3 192.168.0.1 1234567.5 12 34 1 2345 1234 567 1.5 000 5");
  assert_tokens("en", "v2.0 V2.0 python3.11.4", "v2.0 +2.0 v2.0 +2.0 python3.11.4 +python +3.11.4");
  assert_tokens("en", "E0382 0x80070005 sha256 H2O", "e0382 0x80070005 sha256 h2o^");
  assert_tokens("en", "ERR_CONNECTION_REFUSED", "+errconnectionrefus err^ connect^ refus^");
  assert_tokens("en", "CVE-2021-44228 x86_64 12-3 10:30",
                "+cve2021-44228 cve^ 2021 44228 +x86-64 x86 64 +12-3 12 3 +10:30 10 30");
  assert_tokens("en", "C++ c# F#. C+++ C++x i++; page#2", "c++ +c c# +c f# +f c c x i++ +i page 2");
}

static void identifiers(void **state) {
  RAG_UNUSED(state);
  assert_tokens("en", "snake_case snake-case snakeCase snakecase SnakeCase",
                "+snakecas snake case +snakecas snake case snakecas +snake +case snakecas snakecas +snake +case");
  assert_tokens("en", "__init__ a__b -x -- _", "init +ab a~ b x");
  assert_tokens("en", "HTTPServer parseGPUs GPUs URLs GPU",
                "httpserver +http +server parsegpus +pars +gpus gpus +gpu url gpu^");
  assert_tokens("en", "iPhone's mRNA PhD", "iphon +phone mrna +rna phd +ph");
  assert_tokens("en", "e-mails email", "+email e mail email");
  assert_tokens("en", "std::vec::Vec AT&T a:b", "+stdvecvec std vec vec +att at~^ t +ab a~ b");
}

static void compounds_nest(void **state) {
  RAG_UNUSED(state);
  assert_tokens("en", "src/main_loop.rs", "+srcmainloopr src +mainloopr +mainloop main loop rs");
  assert_tokens("en", "user.name@example.com", "+usernameexamplecom +usernam user name +examplecom exampl com");
  assert_tokens("en", "https://example.com:80/x?q=1",
                "https +examplecom80x +examplecom80 +examplecom exampl com 80 x q 1");
  assert_tokens("en", "C:\\Users\\me end. Next", "c +usersm user me end next");
}

static void compounds_of_wide_letters(void **state) {
  RAG_UNUSED(state);
  assert_tokens("und", "ab-été été-ab ab\u2010cd ab-東", "+abete ab ete +eteab ete ab +abcd ab cd ab 東$$");
}

static void compounds_have_a_limit(void **state) {
  RAG_UNUSED(state);
  for (uint32_t words = 32; words <= 65; words += words == 33 ? 32 : 1) {
    rag_buf text = {0}, expected = {0};
    if (words == 32) {
      rag_buf_append_char(&expected, '+');
      for (uint32_t i = 0; i < words; i++) rag_buf_append_char(&expected, 'q');
    }
    for (uint32_t i = 0; i < words; i++) {
      rag_buf_append_str(&text, i ? "_q" : "q");
      rag_buf_append_str(&expected, i || words == 32 ? " q" : "q");
    }
    rag_buf_append_char(&expected, '\0');
    rag_analyzer *analyzer = open_analyzer("en");
    assert_tokens_of(analyzer, rag_buf_slice(&text), expected.data);
    rag_analyzer_close(analyzer);
    rag_buf_free(&text);
    rag_buf_free(&expected);
  }
  // A whole of 255 bytes, and one of 256, which is none.
  for (uint32_t tail = 128; tail <= 129; tail++) {
    char text[300], expected[1000], whole[300];
    memset(text, 'q', sizeof(text));
    text[127] = '-';
    text[128 + tail] = '\0';
    memset(whole, 'q', sizeof(whole));
    whole[127 + tail] = '\0';
    snprintf(expected, sizeof(expected), "%s%s%s%.127s %s", tail == 128 ? "+" : "", tail == 128 ? whole : "",
             tail == 128 ? " " : "", text, text + 128);
    assert_tokens("und", text, expected);
  }
}

static void folding(void **state) {
  RAG_UNUSED(state);
  assert_tokens("und", "ﬁle ½ ｆｕｌｌ ＡＢＣ ① Ⅷ ﷲ", "file 12 full abc 1 viii ﷲ");
  assert_tokens("und", "Ὀδυσσεύς ΟΔΥΣΣΕΥΣ", "οδυσσευσ οδυσσευσ");
  assert_tokens("und", "İstanbul ISTANBUL ıstanbul", "istanbul istanbul^ istanbul");
  assert_tokens("und", "Ё ё й и\u0306 и", "е е и и и");
  assert_tokens("und", "מִלָּה مُحَمَّد हिन्दी", "מלה محمد हिन्दी");
  assert_tokens("und", "ế e\u0302\u0301 ñ n\u0303", "e e n n");
}

static void languages(void **state) {
  RAG_UNUSED(state);
  assert_tokens("", "running", "run");
  assert_tokens("EN_us", "running", "run");
  assert_tokens("und", "running the", "running the");
  assert_tokens("xx", "running", "running");
  assert_tokens("de", "Häuser Haeuser Mueller Müller Muller Straße STRASSE neue Quelle",
                "haus haus mull mull mull strass strass^ neu quell");
  assert_tokens("fr", "l'avion d’été aujourd'hui qu'il", "l~ avion d~ ete aujourdhui qu~ il~");
  assert_tokens("it", "dell'anno", "dell~ anno");
  assert_tokens("sv", "får far köp", "får far köp");
  assert_tokens("en", "får köp", "far kop");
  assert_tokens("es", "niño niños nino", "niñ niñ nin");
  assert_tokens("tr", "ISPARTA ısparta isparta İZMİR izmir", "ispar^ ispar ispar izmir izmir");
  assert_tokens("ru", "Важнейший файлы running мой", "важн файл run мо");
  assert_tokens("ja", "running の東京", "run の東 東京 京$");
}

static void scripts_without_spaces(void **state) {
  RAG_UNUSED(state);
  assert_tokens("zh", "東京都 猫 go言語v2", "東京 京都 都$ 猫$$ go 言語 語$ v2");
  assert_tokens("ja", "ガｶﾞｶ\u3099 カ", "ガガ ガガ ガ$ カ$$");
  assert_tokens("ko", "\u1112\u1161\u11ab\u1100\u1173\u11af 한글", "한글 글$ 한글 글$");
  assert_tokens("th", "ที่นี่", "ที่นี่ นี่$");
  assert_tokens("km", "ខ្មែរ", "ខ្មែ មែរ រ$");
}

static void emoji(void **state) {
  RAG_UNUSED(state);
  assert_tokens("en", "👍🏽🎉 ❤️ 👩‍💻 ⌚", "👍 🎉 ❤ 👩 💻 ⌚");
  assert_tokens("en", "🇩🇪🇫🇷🇮 1️⃣", "🇩🇪 🇫🇷 🇮 1");
}

typedef struct span {
  uint32_t position, start, end;
} span;
typedef struct spans {
  const span *expected;
  uint32_t count, seen;
} spans;

static bool check_span(void *context, const rag_token *token) {
  spans *s = context;
  assert_true(s->seen < s->count);
  assert_int_equal(token->position, s->expected[s->seen].position);
  assert_int_equal(token->start, s->expected[s->seen].start);
  assert_int_equal(token->end, s->expected[s->seen].end);
  s->seen++;
  return true;
}

static void offsets_and_positions(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *analyzer = open_analyzer("en");
  const span latin[] = {{0, 0, 6},   {1, 7, 20},  {1, 7, 12},  {2, 13, 17},
                        {3, 18, 20}, {4, 21, 29}, {4, 21, 25}, {4, 25, 29}};
  spans s = {latin, RAG_COUNT_OF(latin), 0};
  assert_int_equal(rag_analyzer_run(analyzer, rag_slice_str("cafe\u0301 snake_it's_ok readFile"), check_span, &s),
                   RAG_OK);
  assert_int_equal(s.seen, s.count);
  const span mixed[] = {{0, 0, 6}, {1, 3, 6}, {2, 7, 18}, {3, 18, 26}};
  s = (spans){mixed, RAG_COUNT_OF(mixed), 0};
  assert_int_equal(rag_analyzer_run(analyzer, rag_slice_str("東京 👍🏽\u200d🇩🇪"), check_span, &s), RAG_OK);
  assert_int_equal(s.seen, s.count);
  rag_analyzer_close(analyzer);
}

static void long_words_are_cut(void **state) {
  RAG_UNUSED(state);
  char text[300], expected[300];
  memset(text, 'q', sizeof(text));
  memset(expected, 'q', sizeof(expected));
  expected[RAG_TERM_BYTES_MAX] = '\0';
  text[RAG_TERM_BYTES_MAX] = '\0'; // at the limit
  assert_tokens("en", text, expected);
  text[RAG_TERM_BYTES_MAX] = 'q'; // one past it
  text[RAG_TERM_BYTES_MAX + 1] = '\0';
  assert_tokens("en", text, expected);
  memcpy(text + RAG_TERM_BYTES_MAX - 1, "é", 3); // a character across it
  expected[RAG_TERM_BYTES_MAX - 1] = '\0';
  assert_tokens("und", text, expected);
}

static bool one_token(void *context, const rag_token *token) {
  uint32_t *seen = context;
  (*seen)++;
  assert_true(token->term.size == RAG_TERM_BYTES_MAX || token->flags & RAG_TOKEN_EXTRA);
  assert_int_equal(token->start, 0);
  assert_int_equal(token->end, 10u << 20);
  return true;
}

static void a_word_of_10_mib(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *analyzer = open_analyzer("en");
  size_t size = 10u << 20;
  char *text = rag_alloc(size);
  for (int camel = 0; camel < 2; camel++) {
    uint32_t seen = 0;
    for (size_t i = 0; i < size; i++) text[i] = camel && i % 2 ? 'A' : 'a';
    assert_int_equal(rag_analyzer_run(analyzer, rag_slice_of(text, size), one_token, &seen), RAG_OK);
    assert_int_equal(seen, 1);
  }
  rag_free(text);
  rag_analyzer_close(analyzer);
}

static void languages_are_checked(void **state) {
  RAG_UNUSED(state);
  static const char *const bad[] = {"e n", "-", "é", "aaaaaaaaaabbbbbbbbbbccccccccccdddddd"};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    rag_analyzer *analyzer = NULL;
    rag_error err = {0};
    assert_int_equal(rag_analyzer_open(rag_slice_str(bad[i]), &analyzer, &err), RAG_INVALID_ARGUMENT);
    assert_string_equal(err.field, "language");
    assert_null(analyzer);
  }
  rag_analyzer_close(open_analyzer("aaaaaaaaaabbbbbbbbbbccccccccccddddd")); // 35 bytes
}

static bool stop_at_second(void *context, const rag_token *token) {
  RAG_UNUSED(token);
  return ++*(int *)context < 2;
}

static void the_callback_can_stop(void **state) {
  RAG_UNUSED(state);
  static const char *const texts[] = {"one two three", "oneTwo threeFour", "東京都庁", "a_b_c_d", "👍👍👍", "v2.0 v3.0"};
  rag_analyzer *analyzer = open_analyzer("en");
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) {
    int calls = 0;
    assert_int_equal(rag_analyzer_run(analyzer, rag_slice_str(texts[i]), stop_at_second, &calls), RAG_CANCELLED);
    assert_int_equal(calls, 2);
  }
  rag_slice huge = {"", (size_t)RAG_ANALYSIS_TEXT_BYTES_MAX + 1};
  assert_int_equal(rag_analyzer_run(analyzer, huge, stop_at_second, NULL), RAG_OUT_OF_RANGE);
  rag_analyzer_close(analyzer);
}

static void ids_tell_languages_apart(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *english = open_analyzer("en-GB"), *none = open_analyzer(""), *german = open_analyzer("de");
  assert_string_equal(rag_analyzer_id(english), rag_analyzer_id(none));
  assert_string_not_equal(rag_analyzer_id(english), rag_analyzer_id(german));
  assert_memory_equal(rag_analyzer_id(english), "words-1/en/snowball-", 20);
  rag_analyzer_close(english);
  rag_analyzer_close(none);
  rag_analyzer_close(german);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(prose),
      cmocka_unit_test(numbers_and_codes),
      cmocka_unit_test(identifiers),
      cmocka_unit_test(compounds_nest),
      cmocka_unit_test(compounds_of_wide_letters),
      cmocka_unit_test(compounds_have_a_limit),
      cmocka_unit_test(folding),
      cmocka_unit_test(languages),
      cmocka_unit_test(scripts_without_spaces),
      cmocka_unit_test(emoji),
      cmocka_unit_test(offsets_and_positions),
      cmocka_unit_test(long_words_are_cut),
      cmocka_unit_test(a_word_of_10_mib),
      cmocka_unit_test(languages_are_checked),
      cmocka_unit_test(the_callback_can_stop),
      cmocka_unit_test(ids_tell_languages_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
