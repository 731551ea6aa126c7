package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// stage is what a stage of the Dockerfile defines for its image.
type stage struct {
	from, user string
	files      []string
	entrypoint string
}

// stages parses the last stages of the Dockerfile, which only copy files.
func stages(t *testing.T) map[string]stage {
	t.Helper()
	raw, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	found, name := map[string]stage{}, ""
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		s := found[name]
		switch words[0] {
		case "FROM":
			name = words[len(words)-1]
			s = stage{from: words[1]}
			if from, ok := found[s.from]; ok {
				s.user, s.files = from.user, slices.Clone(from.files)
			}
		case "USER":
			s.user = words[1]
		case "COPY":
			to := words[len(words)-1]
			for _, from := range words[2 : len(words)-1] {
				if strings.HasSuffix(to, "/") {
					s.files = append(s.files, strings.TrimPrefix(to, "/")+from[strings.LastIndex(from, "/")+1:])
				} else {
					s.files = append(s.files, strings.TrimPrefix(to, "/"))
				}
			}
		case "ENTRYPOINT":
			s.entrypoint = words[1]
		}
		found[name] = s
	}
	return found
}

// TestImagesAreThoseOfTheDockerfile checks that both ways to build an image give it the same files,
// the same program and the same user.
func TestImagesAreThoseOfTheDockerfile(t *testing.T) {
	dockerfile := stages(t)
	binaries := given(t)
	for _, p := range programs {
		t.Run(p.image, func(t *testing.T) {
			want := dockerfile[strings.TrimPrefix(p.image, "securenotes-")]
			_, images, err := imageIndex(p, binaries, "1.2.3", time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			for architecture, image := range images {
				compare(t, architecture, image, want)
			}
		})
	}
	raw, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if printed := "printf '" + strings.ReplaceAll(text, "\n", `\n`) + "' > /out/" + name; !strings.Contains(string(raw), printed) {
			t.Errorf("the Dockerfile writes another file %s: it does not contain %s", name, printed)
		}
	}
}

func compare(t *testing.T, architecture string, image v1.Image, want stage) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != want.user {
		t.Errorf("%s: user %q, want %q", architecture, config.Config.User, want.user)
	}
	if got := `["` + strings.Join(config.Config.Entrypoint, `","`) + `"]`; got != want.entrypoint {
		t.Errorf("%s: entrypoint %s, want %s", architecture, got, want.entrypoint)
	}
	var got []string
	for path := range files(t, image) {
		got = append(got, path)
	}
	slices.Sort(got)
	slices.Sort(want.files)
	if !slices.Equal(got, want.files) {
		t.Errorf("%s: files %v, want %v", architecture, got, want.files)
	}
}
