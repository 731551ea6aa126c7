package main

import (
	"context"
	"errors"
	"time"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/deploy"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/internal/tour"
)

func (a *app) deploy() deploy.Deploy {
	return deploy.Deploy{Layout: a.layout, Kube: a.kube(), Tools: a.tools, Addons: a.addons()}
}

// run is the main job, end to end.
func (a *app) run(ctx context.Context) error {
	if err := a.upWithSample(ctx); err != nil {
		return err
	}
	c, err := tour.NewClient(deploy.URL, a.layout.CA())
	if err != nil {
		return err
	}
	var note tour.Note
	if err := a.Step(ctx, "A client's day at "+deploy.URL, func(ctx context.Context) (string, error) {
		// A pod that became Ready a moment ago may not be in every node's Service rules yet.
		err := kube.Until(ctx, 30*time.Second, time.Second, c.Reachable)
		if err == nil {
			note, err = c.FirstDay(ctx, a.Say)
		}
		return "certificate verified", err
	}); err != nil {
		return err
	}
	if err := a.Step(ctx, "Rotation of the master key", func(ctx context.Context) (string, error) {
		return tour.Rotate(ctx, a.kube(), deploy.Namespace, deploy.Name, a.Say)
	}); err != nil {
		return err
	}
	if err := a.Step(ctx, "The note after the rotation", func(ctx context.Context) (string, error) {
		return "", c.Read(ctx, note, a.Say)
	}); err != nil {
		return err
	}
	a.nextSteps()
	return nil
}

// upWithSample brings everything up and leaves the sample Ready. The end-to-end tests start here.
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

// imagesOnly is for trying a change: build, load, and let helm or kubectl roll it out.
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
SecureNotes is up after %s at %s

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
  make down     remove all of it`,
		a.Elapsed(), deploy.URL, a.layout.Kubeconfig(), a.layout.Cluster("bin"), deploy.Namespace, deploy.Namespace, deploy.Name,
		a.layout.CA(), deploy.URL, a.layout.CA(), deploy.URL, deploy.Namespace, deploy.Name)
}
