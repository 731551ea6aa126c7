package serve

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/offline/internal/store"
)

// TestServe pulls an image of the store, as hack/kind does, and checks that it is built only once.
func TestServe(t *testing.T) {
	made := 0
	recipe := store.Recipe{Name: "example.com/hack/vault", Tag: "1.2", Make: func(_ context.Context, dir string) (v1.Image, error) {
		made++
		image := images.Image{Repository: "example.com/hack/vault", Files: []images.File{{To: "/bin/vault", Data: []byte("a program")}}}
		return image.Build(filepath.Join(dir, "layer.tar"))
	}}
	kept := store.Store{Dir: t.TempDir()}
	for n, want := range []bool{false, true} {
		image, found, err := kept.Ensure(t.Context(), recipe)
		if err != nil || found != want {
			t.Fatalf("attempt %d: found %t, %v; want %t", n, found, err, want)
		}
		server, err := Start([]store.Image{image})
		if err != nil {
			t.Fatal(err)
		}
		p := images.Puller{Say: t.Logf, Cache: t.TempDir(), Lock: imagelock.Lock{Registry: server.Address, Images: map[imagelock.Use]imagelock.Image{
			imagelock.Vault: {Name: recipe.Name, Tag: recipe.Tag, Digest: image.Digest.String()},
		}}}
		if _, err := p.Pull(t.Context()); err != nil {
			t.Error(err)
		}
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("built %d times, want once", made)
	}
}

// TestStoreKeepsWholeImages checks that a failed build leaves nothing, and that a new tag replaces
// the old one.
func TestStoreKeepsWholeImages(t *testing.T) {
	dir := t.TempDir()
	kept := store.Store{Dir: dir}
	recipe := func(tag string, err error) store.Recipe {
		return store.Recipe{Name: "example.com/hack/vault", Tag: tag, Make: func(_ context.Context, work string) (v1.Image, error) {
			if err != nil {
				return nil, errors.Join(err, os.WriteFile(filepath.Join(work, "half"), nil, 0o600))
			}
			return images.Image{Files: []images.File{{To: "/tag", Data: []byte(tag)}}}.Build(filepath.Join(work, "layer.tar"))
		}}
	}
	for _, step := range []struct {
		name, tag string
		err       error
		want      []string
	}{
		{"fails", "1", errors.New("no disk"), nil},
		{"made", "1", nil, []string{"vault/1"}},
		{"fails with another tag", "2", errors.New("no disk"), []string{"vault/1"}},
		{"another tag", "2", nil, []string{"vault/2"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			if _, _, err := kept.Ensure(t.Context(), recipe(step.tag, step.err)); !errors.Is(err, step.err) {
				t.Fatalf("error %v, want %v", err, step.err)
			}
			got, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, hidden...); len(got) != len(step.want) || len(got) == 1 && got[0] != filepath.Join(dir, step.want[0]) {
				t.Errorf("the store contains %v, want %v", got, step.want)
			}
		})
	}
}
