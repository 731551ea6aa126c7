package config

import "testing"

func TestVersion(t *testing.T) {
	tests := map[string]struct{ release, module, want string }{
		"a release":                       {release: "0.1.0", module: "v0.0.0-20261130000000-0123456789ab", want: "0.1.0"},
		"a release without Git":           {release: "0.1.0", module: "(devel)", want: "0.1.0"},
		"built from a checkout":           {module: "v0.0.0-20261130000000-0123456789ab+dirty", want: "v0.0.0-20261130000000-0123456789ab+dirty"},
		"installed as a module":           {module: "v0.1.0", want: "v0.1.0"},
		"built without Git's state":       {module: "(devel)", want: "devel"},
		"built without build information": {want: "devel"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := versionOf(tc.release, tc.module); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
