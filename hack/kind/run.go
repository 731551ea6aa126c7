package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/deploy"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

func (a *app) deploy() deploy.Deploy {
	return deploy.Deploy{Layout: a.layout, Kube: a.kube(), Tools: a.tools, Addons: a.addons()}
}

// run installs everything and shows a tour.
func (a *app) run(ctx context.Context) error {
	if err := a.upWithSample(ctx); err != nil {
		return err
	}
	if err := a.tour(ctx); err != nil {
		return err
	}
	a.nextSteps()
	return nil
}

// tour runs hack/tour, which shows what clients do, and a rotation. It is in the root module, like
// the API's client that it shares with the tests.
func (a *app) tour(ctx context.Context) error {
	program := filepath.Join(a.layout.Root, "bin", "tour")
	if err := proc.New("go", "build", "-mod=readonly", "-trimpath", "-o", program, "./hack/tour").
		In(a.layout.Root).WithEnv(toolchain.BuildEnv()...).Run(ctx); err != nil {
		return err
	}
	env, err := os.ReadFile(a.layout.RunEnv())
	if err != nil {
		return err
	}
	cmd := proc.New(program).WithEnv(strings.Fields(string(env))...).Exec(ctx)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hack/tour: %w%s", err, a.kube().Describe(ctx, deploy.Namespace))
	}
	return nil
}

// upWithSample installs everything and waits until the sample is Ready. The end-to-end tests start
// with it.
func (a *app) upWithSample(ctx context.Context) error {
	d, err := a.upWithAddons(ctx)
	if err != nil {
		return err
	}
	if err := a.buildAndLoad(ctx, d); err != nil {
		return err
	}
	dep := a.deploy()
	for _, s := range []struct {
		title string
		work  func(context.Context) (string, error)
	}{
		{"Namespaces, and the database of the sample", dep.Prepare},
		{"Vault's rights, as its administrator (operator vault-setup)", dep.VaultSetup},
		{"Operator (helm upgrade --install)", dep.Operator},
		{"Sample (kubectl apply -k config/samples)", dep.Sample},
	} {
		if err := a.Step(ctx, s.title, s.work); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) buildAndLoad(ctx context.Context, d docker.Docker) error {
	dep := a.deploy()
	if err := a.Step(ctx, "Build of securenotes and operator", dep.Build); err != nil {
		return err
	}
	return a.Step(ctx, "Images of securenotes and operator", func(ctx context.Context) (string, error) {
		return a.load(ctx, d, dep.Images()...)
	})
}

// imagesOnly builds and loads the images, for a roll-out with helm or kubectl.
func (a *app) imagesOnly(ctx context.Context) error {
	d, ok := docker.Find(ctx)
	if !ok {
		return errors.New("no Docker daemon answers; run `make cluster` first")
	}
	if err := a.buildAndLoad(ctx, d); err != nil {
		return err
	}
	for _, i := range a.deploy().Images() {
		ref, err := i.Ref()
		if err != nil {
			return err
		}
		a.Say("%s", ref)
	}
	return nil
}

func (a *app) nextSteps() {
	a.Title(`
SecureNotes is ready after %s at %s

Try next:
  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl -n %s get securenotes,keyrotations
  kubectl -n %s describe securenotes %s
  curl --cacert %s -H 'Content-Type: application/json' \
    -d '{"username": "alice", "password": "correct horse battery"}' %s/api/auth/register
  curl --cacert %s -H 'Content-Type: application/json' \
    -d '{"username": "alice", "password": "correct horse battery"}' %s/api/auth/login
  kubectl -n %s annotate securenotes %s securenotes.dev/rotate-requested-at=$(date +%%s) --overwrite
  make test     run the test suites against it
  make down     remove everything`,
		a.Elapsed(), deploy.URL, a.layout.Kubeconfig(), a.layout.Cluster("bin"), deploy.Namespace, deploy.Namespace, deploy.Name,
		a.layout.CA(), deploy.URL, a.layout.CA(), deploy.URL, deploy.Namespace, deploy.Name)
}
