package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
)

// canary is in every text that is sent as a body, and in every username and password. If it occurs
// anywhere else, user data has leaked.
const canary = "hush"

// generator creates values for schemas, both valid and invalid ones.
type generator struct {
	*choices
	// known returns values for a field or parameter of this name, such as an existing id or the
	// right password. It may return none.
	known func(name string) []string
}

// member is a field of a JSON object with its encoded value. Unlike a map, a list of members can
// have a field twice, and values that are not JSON.
type member struct{ name, value string }

// members returns the members of a valid object.
func (g *generator) members(schema *openapi3.Schema) []member {
	var all []member
	for _, name := range sortedNames(schema.Properties) {
		if slices.Contains(schema.Required, name) || g.oneIn(2) {
			all = append(all, member{name, g.value(schema.Properties[name], name)})
		}
	}
	return all
}

// value returns a valid value, encoded.
func (g *generator) value(ref *openapi3.SchemaRef, name string) string {
	s := ref.Value
	switch {
	case s.Const != nil:
		return encoded(s.Const)
	case len(s.Enum) > 0:
		return encoded(choose(g.choices, s.Enum))
	case len(s.OneOf) > 0:
		return g.value(choose(g.choices, s.OneOf), name)
	case len(s.AnyOf) > 0:
		return g.value(choose(g.choices, s.AnyOf), name)
	case s.Type.IncludesNull() && g.oneIn(4):
		return "null"
	case s.Type.Includes(openapi3.TypeObject):
		return object(g.members(s))
	case s.Type.Includes(openapi3.TypeArray):
		count := int(s.MinItems) + g.below(3)
		if s.MaxItems != nil && (count > int(*s.MaxItems) || g.oneIn(8)) {
			count = int(*s.MaxItems)
		}
		return g.array(s.Items, name, count)
	case s.Type.Includes(openapi3.TypeInteger), s.Type.Includes(openapi3.TypeNumber):
		return fmt.Sprint(g.number(s))
	case s.Type.Includes(openapi3.TypeBoolean):
		return choose(g.choices, []string{"false", "true"})
	}
	return encoded(g.text(s, name))
}

func (g *generator) array(items *openapi3.SchemaRef, name string, count int) string {
	values := make([]string, count)
	for i := range values {
		values[i] = g.value(items, name)
	}
	return "[" + strings.Join(values, ",") + "]"
}

func (g *generator) number(s *openapi3.Schema) int {
	least, most := math.MinInt32, math.MaxInt32
	if s.Min != nil {
		least = int(*s.Min)
	}
	if s.Max != nil {
		most = int(*s.Max)
	}
	return choose(g.choices, []int{least, most, max(least, min(most, g.below(256)))})
}

// text returns a valid text: a known one, or a generated one.
func (g *generator) text(s *openapi3.Schema, name string) string {
	if known := g.known(name); len(known) > 0 && !g.oneIn(3) {
		return choose(g.choices, known)
	}
	switch {
	case s.Format == "uuid":
		return fmt.Sprintf("%08x-0000-4000-8000-%012x", g.below(1<<16), g.below(1<<16))
	case s.Format == "date-time":
		return "2030-01-02T03:04:05Z"
	case s.Pattern != "":
		if expression, err := syntax.Parse(s.Pattern, syntax.Perl); err == nil {
			return g.matching(expression)
		}
	}
	length := max(int(s.MinLength), len(canary)+8)
	switch {
	case g.oneIn(4) && s.MaxLength != nil && (*s.MaxLength < 1000 || g.oneIn(16)):
		length = int(*s.MaxLength)
	case g.oneIn(8):
		length = int(s.MinLength)
	}
	return g.letters(length)
}

var alphabets = []string{"abcdefghijklmnopqrstuvwxyz", "aZ09._-", "Ää世𝄞ﬁ", " \t\n\"\\/<>&'%;", "\x00\x01\x7f\u0085\u200b\u202e\ufeff\ufffd"}

// letters returns a text of a given length in characters. It begins with the canary if that fits.
func (g *generator) letters(length int) string {
	var b strings.Builder
	if length > len(canary) {
		b.WriteString(canary)
		length -= len(canary)
	}
	alphabet := []rune(alphabets[0])
	if g.oneIn(2) {
		alphabet = []rune(choose(g.choices, alphabets))
	}
	for i := range length {
		if i < 16 {
			b.WriteRune(choose(g.choices, alphabet))
		} else {
			b.WriteRune(alphabet[i%len(alphabet)])
		}
	}
	return b.String()
}

// maxRepeats bounds the repetitions of a pattern's * and +.
const maxRepeats = 3

// matching returns a text that matches a pattern.
func (g *generator) matching(e *syntax.Regexp) string {
	repeat := func(least, most int) string {
		if most < 0 {
			most = least + maxRepeats
		}
		var b strings.Builder
		for range least + g.below(most-least+1) {
			b.WriteString(g.matching(e.Sub[0]))
		}
		return b.String()
	}
	switch e.Op {
	case syntax.OpLiteral:
		return string(e.Rune)
	case syntax.OpCharClass:
		pair := 2 * g.below(len(e.Rune)/2)
		return string(e.Rune[pair] + rune(g.below(int(min(e.Rune[pair+1]-e.Rune[pair]+1, 256)))))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "x"
	case syntax.OpCapture:
		return g.matching(e.Sub[0])
	case syntax.OpStar:
		return repeat(0, -1)
	case syntax.OpPlus:
		return repeat(1, -1)
	case syntax.OpQuest:
		return repeat(0, 1)
	case syntax.OpRepeat:
		return repeat(e.Min, e.Max)
	case syntax.OpAlternate:
		return g.matching(choose(g.choices, e.Sub))
	case syntax.OpConcat:
		var b strings.Builder
		for _, part := range e.Sub {
			b.WriteString(g.matching(part))
		}
		return b.String()
	}
	return "" // anchors
}

// outside returns a value that is just outside the schema's bounds, or of another type if it has
// none.
func (g *generator) outside(ref *openapi3.SchemaRef, name string) string {
	s := ref.Value
	var values []string
	if s.MaxLength != nil && (*s.MaxLength < 1000 || g.oneIn(8)) {
		values = append(values, encoded(g.letters(int(*s.MaxLength)+1)), encoded(" "+g.letters(int(*s.MaxLength))))
	}
	if s.MinLength > 0 {
		values = append(values, encoded(g.letters(int(s.MinLength)-1)))
	}
	if s.MaxItems != nil {
		values = append(values, g.array(s.Items, name, int(*s.MaxItems)+1))
	}
	if s.Items != nil {
		values = append(values, "["+g.outside(s.Items, name)+"]")
	}
	if s.Max != nil {
		values = append(values, fmt.Sprint(*s.Max+1))
	}
	if s.Min != nil {
		values = append(values, fmt.Sprint(*s.Min-1))
	}
	if len(values) == 0 || g.oneIn(4) {
		values = oddValues
	}
	return choose(g.choices, values)
}

func encoded(value any) string {
	text, isText := value.(string)
	if isText && !utf8.ValidString(text) {
		return `"` + text + `"` // the encoder would repair it
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return "null"
	}
	return string(raw)
}

func object(members []member) string {
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = encoded(m.name) + ":" + m.value
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
