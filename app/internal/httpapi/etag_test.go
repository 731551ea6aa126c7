package httpapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEntityTags(t *testing.T) {
	for value, want := range map[string]struct {
		tags   []string
		anyTag bool
		ok     bool
	}{
		`"1"`:          {tags: []string{`"1"`}, ok: true},
		` "1" , "2"`:   {tags: []string{`"1"`, `"2"`}, ok: true},
		`"1","2","1"`:  {tags: []string{`"1"`, `"2"`, `"1"`}, ok: true},
		`,, "1",,`:     {tags: []string{`"1"`}, ok: true},
		`"a,b", "c"`:   {tags: []string{`"a,b"`, `"c"`}, ok: true},
		`""`:           {tags: []string{`""`}, ok: true},
		"\"\xc3\xa9\"": {tags: []string{"\"é\""}, ok: true},
		"\"\xff\"":     {tags: []string{"\"\xff\""}, ok: true},
		`W/"1"`:        {ok: true},
		`W/"1", "2"`:   {tags: []string{`"2"`}, ok: true},
		`*`:            {anyTag: true, ok: true},
		" *\t":         {anyTag: true, ok: true},
		`*, "1"`:       {},
		``:             {},
		` , `:          {},
		`1`:            {},
		`"1`:           {},
		`"1" "2"`:      {},
		`"1"2`:         {},
		`w/"1"`:        {},
		`W/1`:          {},
		`"1", 2`:       {},
		"\"1\x002\"":   {},
		`"1 2"`:        {},
	} {
		tags, anyTag, ok := entityTags(value)
		if diff := cmp.Diff(want.tags, tags); diff != "" || anyTag != want.anyTag || ok != want.ok {
			t.Errorf("%q: any %v, ok %v\n%s", value, anyTag, ok, diff)
		}
	}
}

// TestEntityTag checks both forms of a tag. Clients, and pods of the previous release, know the
// form without an epoch.
func TestEntityTag(t *testing.T) {
	for epoch, want := range map[string]string{"": `"7"`, "abcdefghijklmnop": `"7-abcdefghijklmnop"`} {
		h := &handlers{Service: Service{Epoch: epoch}}
		if got := h.entityTag(7); got != want {
			t.Errorf("epoch %q: %s, want %s", epoch, got, want)
		}
	}
}

func TestOnlyRevision(t *testing.T) {
	const epoch, earlier = "abcdefghijklmnop", "qrstuvwxyz234567"
	for name, tc := range map[string]struct {
		epoch string
		tags  map[string]int64
	}{
		"no epoch": {tags: map[string]int64{
			`"1"`: 1, `"9223372036854775806"`: 9223372036854775806,
			`"01"`: 0, `"+1"`: 0, `"-1"`: 0, `"0"`: 0, `""`: 0, `"1.0"`: 0, `"1_0"`: 0, `"x"`: 0, `"9223372036854775807"`: 0, `"9223372036854775808"`: 0,
			`"1-"`: 0, `"1-` + epoch + `"`: 0,
		}},
		"an epoch": {epoch: epoch, tags: map[string]int64{
			`"1-` + epoch + `"`: 1, `"9223372036854775806-` + epoch + `"`: 9223372036854775806,
			`"1"`: 0, `"1-"`: 0, `"1-` + earlier + `"`: 0, `"1-` + epoch + `-"`: 0, `"1-` + epoch[1:] + `"`: 0, `"1--` + epoch + `"`: 0, `"` + epoch + `"`: 0,
			`"01-` + epoch + `"`: 0, `"+1-` + epoch + `"`: 0, `"-1-` + epoch + `"`: 0, `"0-` + epoch + `"`: 0, `"-` + epoch + `"`: 0, `"9223372036854775807-` + epoch + `"`: 0,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handlers{Service: Service{Epoch: tc.epoch}}
			for tag, want := range tc.tags {
				if got, ok := h.onlyRevision([]string{tag}); ok != (want > 0) || ok && got != want {
					t.Errorf("%s: %d, %v", tag, got, ok)
				}
			}
		})
	}
}

// FuzzEntityTags: the result is strong tags of the value, and parsing their list again gives the
// same tags.
func FuzzEntityTags(f *testing.F) {
	for _, seed := range []string{`"1", W/"2",,"a,b"`, `*`, `"1`, `"1" "2"`, `W/`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		tags, _, _ := entityTags(value)
		for _, tag := range tags {
			if len(tag) < 2 || strings.Count(tag, `"`) != 2 || !strings.Contains(value, tag) {
				t.Errorf("%q: %q is no tag of it", value, tag)
			}
		}
		if again, _, ok := entityTags(strings.Join(tags, ", ")); len(tags) > 0 && (!ok || !slices.Equal(again, tags)) {
			t.Errorf("%q: %q, and again %q", value, tags, again)
		}
	})
}
