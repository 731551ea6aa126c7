package testrun

import (
	"strings"
	"testing"
)

func TestCountsAreThoseOfTheLeaves(t *testing.T) {
	tests := map[string]struct {
		stream   string
		want     Counts
		failures []string
	}{
		"a test with subtests counts through them": {
			stream: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"run","Package":"p","Test":"A/y"}
{"Action":"output","Package":"p","Test":"A/y","Output":"wrong\n"}
{"Action":"fail","Package":"p","Test":"A/y"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"fail","Package":"p"}`,
			want: Counts{Passed: 1, Failed: 1, Skipped: 1}, failures: []string{"p A/y"},
		},
		"a parent that fails after its subtests passed counts itself": {
			stream: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			want: Counts{Passed: 1, Failed: 1}, failures: []string{"p A"},
		},
		"a package that does not compile is one failure": {
			stream: `{"Action":"build-output","ImportPath":"p [p.test]","Output":"undefined: x\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			want: Counts{Failed: 1}, failures: []string{"p"},
		},
		"a panic is one failure and keeps what was printed": {
			stream: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			want: Counts{Failed: 1}, failures: []string{"p"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCollector(func(Progress) {})
			if _, err := c.read(strings.NewReader(tc.stream)); err != nil {
				t.Fatal(err)
			}
			if got := c.total(); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			var names []string
			for _, f := range c.failures {
				names = append(names, f.Name)
			}
			if strings.Join(names, ",") != strings.Join(tc.failures, ",") {
				t.Errorf("failures %q, want %q", names, tc.failures)
			}
		})
	}
}
