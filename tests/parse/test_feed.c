#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "parse/parse.h"
#include "parse/parse_int.h"

static void gives(struct base_str in, const char *want)
{
	struct parse_fault f = {0};
	struct base_buf out;

	base_buf_init(&out, PARSE_OUTPUT_MAX);
	if (parse_feed(in, &out, &f) < 0)
		fail_msg("refused: %s", f.err.text);
	base_buf_char(&out, 0);
	assert_string_equal(out.ptr, want);
	base_buf_done(&out);
}

static void refused(struct base_str in, unsigned line, const char *part)
{
	struct parse_fault f = {0};
	struct base_buf out;

	base_buf_init(&out, PARSE_OUTPUT_MAX);
	assert_true(parse_feed(in, &out, &f) < 0);
	if (!strstr(f.err.text, part))
		fail_msg("\"%s\" does not say \"%s\"", f.err.text, part);
	assert_int_equal(f.line, line);
	assert_int_equal(out.len, 0);
	base_buf_done(&out);
}

static void test_rss(void **state)
{
	(void)state;
	gives(BASE_STR(
		      "<?xml version=\"1.0\"?><rss version=\"2.0\" "
		      "xmlns:media=\"http://m/\"><channel><title>A &amp; B</title>"
		      "<link>https://a.example/</link><media:title>no</media:title>"
		      "<item><title>One</title><link> https://a.example/1 </link><guid "
		      "isPermaLink=\"false\">g1</guid>"
		      "<pubDate>Tue, 03 Jun 2025 09:39:21 +0200</pubDate>"
		      "<description><![CDATA[<p>Hello <b>w</b>orld &amp; "
		      "all</p><p>Two</p><script>x<y</script>]]></description>"
		      "</item><item><guid>https://a.example/2</guid><title>T</title></item></channel></rss>"),
		"{\"title\":\"A & B\",\"link\":\"https://a.example/\",\"items\":["
		"{\"id\":\"g1\",\"title\":\"One\",\"link\":\"https://a.example/1\",\"summary\":\"Hello world "
		"& all Two\","
		"\"published_ms\":1748936361000},"
		"{\"id\":\"https://a.example/2\",\"title\":\"T\",\"link\":\"https://a.example/"
		"2\",\"summary\":\"\","
		"\"published_ms\":null}]}");
}

static void test_rdf(void **state)
{
	(void)state;
	gives(BASE_STR("<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\" "
		       "xmlns=\"http://purl.org/rss/1.0/\" "
		       "xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><channel "
		       "rdf:about=\"u\"><title>C</title><link>l</link></channel>"
		       "<item "
		       "rdf:about=\"u1\"><title>I</title><link>l1</link><dc:date>2025-06-03</dc:date></"
		       "item></rdf:RDF>"),
		"{\"title\":\"C\",\"link\":\"l\",\"items\":[{\"id\":\"u1\",\"title\":\"I\",\"link\":\"l1\","
		"\"summary\":\"\","
		"\"published_ms\":1748908800000}]}");
}

static void test_atom(void **state)
{
	(void)state;
	gives(BASE_STR("<feed xmlns=\"http://www.w3.org/2005/Atom\"><title type=\"html\">F "
		       "&amp;lt;x&amp;gt;</title>"
		       "<link rel=\"self\" href=\"s\"/><link href=\"h\"/>"
		       "<entry><id>i</id><title>a &lt; b</title><link rel=\"alternate\" href=\"l\"/>"
		       "<published>2025-06-03T09:39:21.5Z</published><content type=\"xhtml\">"
		       "<div "
		       "xmlns=\"http://www.w3.org/1999/xhtml\"><p>One</p><p>Two</p></div></content></entry></"
		       "feed>"),
		"{\"title\":\"F <x>\",\"link\":\"h\",\"items\":[{\"id\":\"i\",\"title\":\"a < "
		"b\",\"link\":\"l\","
		"\"summary\":\"One Two\",\"published_ms\":1748943561500}]}");
}

static void test_encodings(void **state)
{
	static const char want[] = "{\"title\":\"caf\xc3\xa9\",\"link\":\"\",\"items\":[]}";
	static const char wide[] = "<rss><channel><title>caf\xe9</title></channel></rss>";
	char utf16[2 + 2 * sizeof(wide)] = "\xff\xfe";

	(void)state;
	for (size_t i = 0; i < sizeof(wide) - 1; i++)
		utf16[2 + 2 * i] = wide[i];
	gives((struct base_str){utf16, 2 * sizeof(wide)}, want);
	gives(BASE_STR("<?xml version='1.0' "
		       "encoding='ISO-8859-1'?><rss><channel><title>caf\xe9</title></channel></rss>"),
		want);
	gives(BASE_STR("\xef\xbb\xbf<rss><channel><title>caf\xc3\xa9</title></channel></rss>"), want);
	gives(BASE_STR("<?xml version='1.0' "
		       "encoding='windows-1252'?><rss><channel><title>\x80</title></channel></rss>"),
		"{\"title\":\"\xe2\x82\xac\",\"link\":\"\",\"items\":[]}");
	refused(BASE_STR("<?xml version='1.0' encoding='Shift_JIS'?><rss/>"), 1, "Shift_JIS");
	refused(BASE_STR("<rss>\n<a>\xff</a></rss>"), 2, "UTF-8");
}

static void test_hostile(void **state)
{
	struct base_buf b;

	(void)state;
	refused(BASE_STR("<!DOCTYPE lolz [\n<!ENTITY lol \"lol\">\n<!ENTITY lol2 "
			 "\"&lol;&lol;&lol;\">]><rss>&lol2;</rss>"),
		2, "entities");
	refused(BASE_STR("<!DOCTYPE r [<!ENTITY x SYSTEM "
			 "\"file:///etc/passwd\">]><rss><channel><title>&x;</title></channel></rss>"),
		1, "entities");
	refused(BASE_STR("<!DOCTYPE r [<!ENTITY % p SYSTEM \"http://127.0.0.1/x\"> %p;]><rss/>"), 1,
		"entities");
	refused(BASE_STR("<rss><channel>\n<item></channel></rss>"), 2, "");
	refused(BASE_STR("<html><body/></html>"), 1, "no feed");
	refused(BASE_STR("<rss/>"), 0, "channel");
	refused(BASE_STR(""), 0, "");
	refused(BASE_STR("not xml at all"), 1, "");
	base_buf_init(&b, PARSE_INPUT_MAX);
	for (int i = 0; i < 100000; i++)
		base_buf_cstr(&b, "<a>");
	refused(base_buf_view(&b), 1, "depth");
	base_buf_clear(&b);
	base_buf_cstr(&b, "<rss><channel>");
	for (int i = 0; i < 400001; i++)
		base_buf_cstr(&b, "<a/>");
	base_buf_cstr(&b, "</channel></rss>");
	refused(base_buf_view(&b), 1, "400000");
	base_buf_done(&b);
	/* an external DTD is named by old RSS; it is not read, and does no harm */
	gives(BASE_STR("<!DOCTYPE rss PUBLIC \"-//N//DTD RSS 0.91//EN\" "
		       "\"http://127.0.0.1:9/rss.dtd\"><rss><channel>"
		       "<title>x</title></channel></rss>"),
		"{\"title\":\"x\",\"link\":\"\",\"items\":[]}");
}

static void html(const char *in, const char *want)
{
	struct base_buf b;

	base_buf_init(&b, PARSE_OUTPUT_MAX);
	parse_html_text(base_str_of(in), &b);
	base_buf_char(&b, 0);
	assert_string_equal(b.ptr, want);
	base_buf_done(&b);
}

static void test_html(void **state)
{
	struct base_buf b, long_text;

	(void)state;
	html("", "");
	html("  a\n\n b ", "a b");
	html("1 < 2 &amp; 3 > 2", "1 < 2 & 3 > 2");
	html("AT&T &unknown; &#8212; &#x2014; &#xD800;",
		"AT&T &unknown; \xe2\x80\x94 \xe2\x80\x94 \xef\xbf\xbd");
	html("<a href=\"x>y\">l</a>ink<br/>next", "link next");
	html("a<!-- <b> -->b<STYLE>p{}</STYLE>c", "ab c");
	html("<script>never closed", "");
	html("&nbsp;x&nbsp;", "x");
	html("<p", "");
	base_buf_init(&b, PARSE_OUTPUT_MAX);
	base_buf_init(&long_text, PARSE_OUTPUT_MAX);
	for (int i = 0; i < 100000; i++)
		base_buf_cstr(&long_text, "\xe2\x82\xac");
	parse_html_text(base_buf_view(&long_text), &b);
	assert_in_range(b.len, PARSE_TEXT_MAX - 3, PARSE_TEXT_MAX);
	assert_true(base_utf8_valid(base_buf_view(&b)));
	base_buf_done(&b);
	base_buf_done(&long_text);
}

static void date(const char *in, int64_t want)
{
	int64_t ms = -1;

	if (!parse_date(base_str_of(in), &ms))
		fail_msg("%s: not read", in);
	assert_true(ms == want);
}

static void test_dates(void **state)
{
	int64_t ms = 7;

	(void)state;
	date("1970-01-01", 0);
	date("2024-02-29T23:59:59Z", 1709251199000);
	date("2025-06-03T09:39:21.125+02:00", 1748936361125);
	date(" Tue, 3 Jun 2025 09:39 GMT ", 1748943540000);
	date("03 Jun 25 09:39:21 EST", 1748961561000);
	date("Tuesday, 03 June 2025 09:39:21 -0230", 1748952561000);
	assert_false(parse_date(BASE_STR("2025-02-29"), &ms));
	assert_false(parse_date(BASE_STR("yesterday"), &ms));
	assert_false(parse_date(BASE_STR("2025-06-03T25:00:00Z"), &ms));
	assert_false(parse_date(BASE_STR("2025-06-03 trailing"), &ms));
	assert_false(parse_date(BASE_STR(""), &ms));
	assert_true(ms == 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rss),
		cmocka_unit_test(test_rdf),
		cmocka_unit_test(test_atom),
		cmocka_unit_test(test_encodings),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_html),
		cmocka_unit_test(test_dates),
	};

	parse_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
