#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "parse/parse.h"
#include "parse/parse_int.h"

static const char atom_ns[] = "http://www.w3.org/2005/Atom";
static const char content_ns[] = "http://purl.org/rss/1.0/modules/content/";
static const char dc_ns[] = "http://purl.org/dc/elements/1.1/";
static const char rdf_ns[] = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";

/* What the parse may not do; libxml2 is stopped at the first offence. */
struct watch {
	size_t nodes;
	const char *offence;
	int line;
};

static void stop(xmlParserCtxtPtr ctx, const char *offence)
{
	struct watch *w = ctx->_private;

	if (!w->offence) {
		w->offence = offence;
		w->line = ctx->input ? ctx->input->line : 0;
	}
	xmlStopParser(ctx);
}

static void on_element(void *c, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
	int nb_namespaces, const xmlChar **namespaces, int nb_attributes, int nb_defaulted,
	const xmlChar **attributes)
{
	xmlParserCtxtPtr ctx = c;
	struct watch *w = ctx->_private;

	w->nodes += 1 + (size_t)nb_attributes + (size_t)nb_namespaces;
	if (w->nodes > PARSE_XML_NODES_MAX) {
		stop(ctx, "more than 400000 elements and attributes are not read");
		return;
	}
	xmlSAX2StartElementNs(
		c, name, prefix, uri, nb_namespaces, namespaces, nb_attributes, nb_defaulted, attributes);
}

static void on_entity(void *c, const xmlChar *name, int type, const xmlChar *public_id,
	const xmlChar *system_id, xmlChar *content)
{
	(void)name;
	(void)type;
	(void)public_id;
	(void)system_id;
	(void)content;
	stop(c, "it declares entities, which are not allowed");
}

/* Whatever the document names outside itself is not read. */
static xmlParserInputPtr no_input(void *c, const xmlChar *public_id, const xmlChar *system_id)
{
	(void)public_id;
	(void)system_id;
	stop(c, "it refers to something outside, which is not allowed");
	return NULL;
}

static void no_subset(void *c, const xmlChar *name, const xmlChar *external_id, const xmlChar *system_id)
{
	(void)c;
	(void)name;
	(void)external_id;
	(void)system_id;
}

static bool is(const xmlNode *n, const char *ns, const char *name)
{
	if (n->type != XML_ELEMENT_NODE || strcmp((const char *)n->name, name) != 0)
		return false;
	return !ns || (n->ns && n->ns->href && strcmp((const char *)n->ns->href, ns) == 0);
}

/* An element of RSS itself: in no namespace, or in that of its root. */
static xmlNode *own_child(const xmlNode *of, const char *name)
{
	for (xmlNode *n = of->children; n; n = n->next)
		if (is(n, NULL, name) && (!n->ns || (of->ns && n->ns->href && of->ns->href &&
							    xmlStrEqual(n->ns->href, of->ns->href))))
			return n;
	return NULL;
}

static xmlNode *child(const xmlNode *of, const char *ns, const char *name)
{
	for (xmlNode *n = of->children; n; n = n->next)
		if (is(n, ns, name))
			return n;
	return NULL;
}

/* The text below a node; blanks between elements. libxml2 has bounded the depth. */
static void gather(const xmlNode *of, struct base_buf *ret)
{
	for (const xmlNode *n = of->children; n; n = n->next) {
		if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) {
			base_buf_cstr(ret, (const char *)n->content);
		} else if (n->type == XML_ELEMENT_NODE) {
			base_buf_char(ret, ' ');
			gather(n, ret);
			base_buf_char(ret, ' ');
		}
	}
}

/* An attribute's value without allocation; empty if there is none. Entities cannot occur: none are declared.
 */
static struct base_str attribute(const xmlNode *n, const char *name, const char *ns)
{
	for (const xmlAttr *a = n->properties; a; a = a->next) {
		bool same = strcmp((const char *)a->name, name) == 0;

		if (same && (ns ? a->ns && strcmp((const char *)a->ns->href, ns) == 0 : !a->ns) &&
			a->children && a->children->type == XML_TEXT_NODE && !a->children->next)
			return base_str_of((const char *)a->children->content);
	}
	return BASE_STR_NONE;
}

struct out {
	struct base_jw w;
	struct base_buf raw;
	struct base_buf text;
};

/* The text of a node (NULL: empty) into o->text; html: markup in it is dropped. */
static struct base_str text_of(struct out *o, const xmlNode *n, bool html)
{
	base_buf_clear(&o->raw);
	base_buf_clear(&o->text);
	if (n)
		gather(n, &o->raw);
	if (html)
		parse_html_text(base_buf_view(&o->raw), &o->text);
	else
		parse_plain_text(base_buf_view(&o->raw), &o->text);
	return base_buf_view(&o->text);
}

static bool atom_is_html(const xmlNode *n)
{
	struct base_str type = n ? attribute(n, "type", NULL) : BASE_STR_NONE;

	return base_str_is(type, "html") || base_str_is(type, "text/html");
}

static struct base_str atom_link(const xmlNode *of)
{
	struct base_str first = BASE_STR_NONE;

	for (const xmlNode *n = of->children; n; n = n->next) {
		struct base_str rel;

		if (!is(n, atom_ns, "link"))
			continue;
		rel = attribute(n, "rel", NULL);
		if (rel.len == 0 || base_str_is(rel, "alternate"))
			return attribute(n, "href", NULL);
		if (first.len == 0 && !base_str_is(rel, "self"))
			first = attribute(n, "href", NULL);
	}
	return first;
}

static void put_date(struct out *o, const xmlNode *a, const xmlNode *b)
{
	struct base_str s = text_of(o, a ? a : b, false);
	int64_t ms;

	base_jw_key(&o->w, "published_ms");
	if (parse_date(s, &ms))
		base_jw_int(&o->w, ms);
	else
		base_jw_null(&o->w);
}

static void atom_entry(struct out *o, const xmlNode *e)
{
	const xmlNode *title = child(e, atom_ns, "title"), *summary = child(e, atom_ns, "summary");
	struct base_str link = atom_link(e), id;

	if (!summary)
		summary = child(e, atom_ns, "content");
	base_jw_obj(&o->w);
	id = text_of(o, child(e, atom_ns, "id"), false);
	base_jw_mstr(&o->w, "id", id.len ? id : link);
	base_jw_mstr(&o->w, "title", text_of(o, title, atom_is_html(title)));
	base_jw_mstr(&o->w, "link", link);
	base_jw_mstr(&o->w, "summary", text_of(o, summary, atom_is_html(summary)));
	put_date(o, child(e, atom_ns, "published"), child(e, atom_ns, "updated"));
	base_jw_end_obj(&o->w);
}

static void rss_item(struct out *o, const xmlNode *e)
{
	const xmlNode *summary = own_child(e, "description"), *guid = own_child(e, "guid");
	const xmlNode *link = own_child(e, "link");
	struct base_str id;

	if (!summary)
		summary = child(e, content_ns, "encoded");
	base_jw_obj(&o->w);
	id = text_of(o, guid ? guid : link, false);
	if (attribute(e, "about", rdf_ns).len)
		id = attribute(e, "about", rdf_ns);
	base_jw_mstr(&o->w, "id", id);
	base_jw_mstr(&o->w, "title", text_of(o, own_child(e, "title"), true));
	if (!link && guid && !base_str_is(attribute(guid, "isPermaLink", NULL), "false"))
		link = guid;
	base_jw_mstr(&o->w, "link", text_of(o, link, false));
	base_jw_mstr(&o->w, "summary", text_of(o, summary, true));
	put_date(o, own_child(e, "pubDate"), child(e, dc_ns, "date"));
	base_jw_end_obj(&o->w);
}

static int put_feed(struct out *o, const xmlNode *root, struct parse_fault *fault)
{
	bool atom = is(root, atom_ns, "feed");
	const xmlNode *head = root, *items = root;
	size_t count = 0;

	if (is(root, NULL, "rss") || is(root, rdf_ns, "RDF")) {
		head = child(root, NULL, "channel");
		if (!head)
			return parse_fault_set(fault, -EINVAL, 0, 0, "this feed has no channel");
		items = is(root, NULL, "rss") ? head : root;
	} else if (!atom) {
		return parse_fault_set(fault, -EINVAL, (size_t)xmlGetLineNo(root), 0,
			"this is no feed: its root is \"%.60s\", not rss, rdf:RDF or an Atom feed",
			(const char *)root->name);
	}
	base_jw_obj(&o->w);
	if (atom)
		base_jw_mstr(&o->w, "title", text_of(o, child(head, atom_ns, "title"), true));
	else
		base_jw_mstr(&o->w, "title", text_of(o, own_child(head, "title"), true));
	base_jw_mstr(&o->w, "link", atom ? atom_link(head) : text_of(o, own_child(head, "link"), false));
	base_jw_key(&o->w, "items");
	base_jw_arr(&o->w);
	for (const xmlNode *n = items->children; n && count < PARSE_FEED_ITEMS_MAX; n = n->next) {
		if (atom ? !is(n, atom_ns, "entry") : !is(n, NULL, "item"))
			continue;
		count++;
		if (atom)
			atom_entry(o, n);
		else
			rss_item(o, n);
	}
	base_jw_end_arr(&o->w);
	base_jw_end_obj(&o->w);
	return 0;
}

static int xml_fault(xmlParserCtxtPtr ctx, const struct watch *watch, struct parse_fault *fault)
{
	const xmlError *e = xmlCtxtGetLastError(ctx);
	char text[200] = "this is not well-formed XML";
	size_t len;

	if (watch->offence)
		return parse_fault_set(fault, -EINVAL, (size_t)watch->line, 0, "%s", watch->offence);
	if (e && e->code == XML_ERR_NO_MEMORY)
		return parse_fault_set(fault, -ENOMEM, 0, 0, "out of memory");
	if (e && e->message) {
		len = strcspn(e->message, "\n");
		if (len >= sizeof(text))
			len = sizeof(text) - 1;
		memcpy(text, e->message, len);
		text[len] = 0;
	}
	return parse_fault_set(fault, -EINVAL, e && e->line > 0 ? (size_t)e->line : 0,
		e && e->int2 > 0 ? (size_t)e->int2 : 0, "%s", text);
}

static int read_document(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA |
			    XML_PARSE_IGNORE_ENC | XML_PARSE_COMPACT;
	struct watch watch = {0};
	struct out o = {.w = base_jw_of(ret)};
	xmlParserCtxtPtr ctx = xmlNewParserCtxt();
	xmlDocPtr doc;
	int r;

	if (!ctx)
		return parse_fault_set(fault, -ENOMEM, 0, 0, "out of memory");
	ctx->_private = &watch;
	ctx->sax->startElementNs = on_element;
	ctx->sax->entityDecl = on_entity;
	ctx->sax->resolveEntity = no_input;
	ctx->sax->externalSubset = no_subset;
	ctx->sax->comment = NULL;
	ctx->sax->processingInstruction = NULL;
	doc = xmlCtxtReadMemory(ctx, in.ptr, (int)in.len, NULL, "UTF-8", options);
	base_buf_init(&o.raw, PARSE_INPUT_MAX);
	base_buf_init(&o.text, PARSE_TEXT_MAX + 8);
	if (!doc || !ctx->wellFormed || watch.offence || !xmlDocGetRootElement(doc))
		r = xml_fault(ctx, &watch, fault);
	else
		r = put_feed(&o, xmlDocGetRootElement(doc), fault);
	if (r == 0 && (base_buf_failed(&o.raw) < 0 || base_buf_failed(&o.text) < 0))
		r = parse_fault_set(fault, -ENOMEM, 0, 0, "out of memory");
	base_buf_done(&o.raw);
	base_buf_done(&o.text);
	xmlFreeDoc(doc);
	xmlFreeParserCtxt(ctx);
	return r;
}

int parse_feed(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	struct base_buf utf8;
	size_t before = ret->len;
	int r;

	if (in.len > PARSE_INPUT_MAX)
		return parse_fault_set(fault, -EFBIG, 0, 0, "%zu bytes are more than the %d that are read",
			in.len, PARSE_INPUT_MAX);
	base_buf_init(&utf8, (size_t)3 * PARSE_INPUT_MAX);
	r = parse_xml_decode(in, &utf8, fault);
	if (r == 0 && base_buf_failed(&utf8) < 0)
		r = parse_fault_set(fault, -ENOMEM, 0, 0, "out of memory");
	if (r == 0)
		r = read_document(base_buf_view(&utf8), ret, fault);
	base_buf_done(&utf8);
	if (r < 0)
		ret->len = before;
	return r;
}
