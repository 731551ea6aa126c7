package main

import (
	"io"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/internal/addons"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// app is the common state of all subcommands.
type app struct {
	*console.Console
	layout layout.Layout
	tools  *toolchain.Chain
	lock   imagelock.Lock // of the cluster's images; chooseImages sets it
}

func newApp(out io.Writer) (*app, error) {
	l, err := layout.Find()
	if err != nil {
		return nil, err
	}
	say := console.New(out)
	tools, err := toolchain.New(say, l.Root, l.Cache)
	if err != nil {
		return nil, err
	}
	return &app{Console: say, layout: l, tools: tools}, nil
}

func (a *app) kube() kube.Client {
	return kube.Client{Kubectl: a.layout.Program("kubectl"), Kubeconfig: a.layout.Kubeconfig()}
}

func (a *app) cluster(d docker.Docker) cluster.Cluster {
	return cluster.Cluster{Say: a.Console, Layout: a.layout, Docker: d, Kind: a.tools.Path(toolchain.Kind), Kube: a.kube()}
}

func (a *app) puller(d docker.Docker) images.Puller {
	return images.Puller{Say: a.Say, Cache: a.layout.Pulled(), Docker: d, Lock: a.lock}
}

func (a *app) addons() addons.Addons {
	return addons.Addons{Say: a.Say, Layout: a.layout, Kube: a.kube(), Tools: a.tools, Lock: a.lock}
}
