package httpapi_test

import (
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// oddValues replace other values. Some are not JSON.
var oddValues = []string{
	`null`, `7`, `-1`, `0.5`, `1e999`, `123456789012345678901234567890`, `true`, `{}`, `[]`, `""`, `" \t\n"`, `"\u0000"`,
	`"\ud800"`, `"\u2028"`, "\"\xff\"", "\"\x01\"", `{"` + canary + `":{"` + canary + `":[]}}`, `[[[]]]`, `[null]`, `NaN`, `'x'`, ``,
	strings.Repeat("[", 5_000), strings.Repeat(`{"a":`, 5_000), strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000),
}

// oddTexts replace ids, numbers and revisions.
var oddTexts = []string{
	"", " ", "0", "-1", "+5", "050", "1e3", "0x10", "5 ", "NaN", "99999999999999999999999", "null", "{id}", "*", `""`, `"0"`, `"1"`, `"-1"`, `W/"1"`,
	`"1", "2"`, `"99999999999999999999999"`, `"2147483647"`, `"9223372036854775806"`, `"9223372036854775807"`, "../..", "a/b", "%2e%2e%2f", "' OR '1'='1", "\x00", "\xff", "𝄞", "\u202e", "a,b", "[1]",
	"00000000-0000-0000-0000-000000000000", "{00000000-0000-4000-8000-000000000000}", "urn:uuid:00000000-0000-4000-8000-000000000000",
	strings.Repeat("x", 5_000),
}

// mutate makes a body that the schema forbids from the members of a valid one. Sometimes the result
// is valid anyway.
func (g *generator) mutate(schema *openapi3.Schema, members []member) string {
	if g.oneIn(3) {
		return g.mutateText(object(members))
	}
	if len(members) == 0 {
		return choose(g.choices, oddValues)
	}
	members = slices.Clone(members)
	at := g.below(len(members))
	property := schema.Properties[members[at].name]
	switch g.below(8) {
	case 0:
		members = slices.Delete(members, at, at+1)
	case 1:
		members[at].value = choose(g.choices, oddValues)
	case 2, 6, 7:
		members[at].value = g.outside(property, members[at].name)
	case 3: // a field twice, maybe with another value
		members = append(members, member{members[at].name, choose(g.choices, []string{members[at].value, g.value(property, members[at].name)})})
	case 4: // an unknown field
		name := choose(g.choices, []string{canary, "", "id", "__proto__", strings.ToUpper(members[at].name), members[at].name + "\x00", strings.Repeat(canary, 100)})
		members = append(members, member{name, choose(g.choices, oddValues)})
	case 5:
		members[at].name = choose(g.choices, []string{strings.ToUpper(members[at].name[:1]) + members[at].name[1:], members[at].name + " ", "\xff"})
	}
	return object(members)
}

// mutateText damages a body regardless of its content.
func (g *generator) mutateText(body string) string {
	at := g.below(len(body))
	switch g.below(8) {
	case 0:
		return ""
	case 1:
		return body[:at]
	case 2:
		return body + choose(g.choices, []string{body, "}", "\x00", " ", "//" + canary})
	case 3:
		return "[" + body + "]"
	case 4:
		return "\ufeff" + body
	case 5:
		return body[:at] + choose(g.choices, []string{"\xff", "\x00", "\\", `"`, "{", "\xed\xa0\x80"}) + body[at:]
	case 6:
		size := 10_000
		if g.oneIn(32) {
			size = 1_500_000
		}
		return body + strings.Repeat(" ", size)
	}
	return choose(g.choices, oddValues)
}
