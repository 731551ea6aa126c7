package progress

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/securenotes/securenotes/app/config"
)

// patchTimeout bounds one write. A slow API server must not slow down the work.
const patchTimeout = 5 * time.Second

// ConfigMap writes snapshots to a shard's key of a ConfigMap. The operator adds up all shards.
type ConfigMap struct {
	client         corev1.ConfigMapInterface
	name, key, job string
	log            *slog.Logger
	complained     time.Time
}

// NewConfigMap returns a sink for the ConfigMap "namespace/name", with the pod's own credentials.
func NewConfigMap(reference, job string, shard int, log *slog.Logger) (*ConfigMap, error) {
	namespace, name, ok := strings.Cut(reference, "/")
	if !ok || namespace == "" || name == "" || job == "" {
		return nil, fmt.Errorf("--progress-configmap %q needs the form NAMESPACE/NAME, and --job", reference)
	}
	settings, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("progress ConfigMap: %w", err)
	}
	client, err := corev1.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("progress ConfigMap: %w", err)
	}
	return &ConfigMap{client: client.ConfigMaps(namespace), name: name, key: config.ShardProgressKey(shard), job: job, log: log}, nil
}

// Show implements Sink. If progress cannot be written, the work continues.
func (c *ConfigMap) Show(ctx context.Context, s Snapshot, state State) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patchTimeout)
	defer cancel()
	value, err := json.Marshal(config.ShardProgress{Job: c.job, NotesDone: s.Done, NotesTotal: s.Total, NotesPerSecond: s.PerSecond, Conflicts: s.Conflicts})
	if err == nil {
		var patch []byte
		if patch, err = json.Marshal(map[string]any{"data": map[string]string{c.key: string(value)}}); err == nil {
			_, err = c.client.Patch(ctx, c.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "securenotes"})
		}
	}
	if err != nil && (state != Working || time.Since(c.complained) > time.Minute) {
		c.complained = time.Now()
		c.log.Warn("progress could not be written", "configmap", c.name, "error", err.Error())
	}
}
