package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const (
	// trialTimeout bounds the requests to the cluster in KUBECONFIG, which may not be reachable.
	trialTimeout = 15 * time.Second
	// trialTokenSeconds is the shortest lifetime of a token that the API server issues.
	trialTokenSeconds = 600
)

// tryLogin logs in to Vault as the operator does. It prints a warning if it cannot try. A login
// that Vault rejects is an error, unless the cluster in KUBECONFIG may not be the one of the
// set-up.
func tryLogin(cmd *cobra.Command, setup vaultadmin.Setup, vault *api.Client) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), trialTimeout)
	defer cancel()
	warn := func(err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %v. The condition VaultReady of a SecureNotes shows whether the operator can log in.\n", err)
	}
	jwt, own, err := operatorToken(ctx, setup)
	if err != nil {
		warn(fmt.Errorf("the trial login as the operator was skipped: %w", err))
		return nil
	}
	if err = setup.TrialLogin(ctx, vault, jwt); err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "trial login as the operator: done")
		return nil
	}
	if !own {
		warn(fmt.Errorf("%w; the cluster in KUBECONFIG may not be the one with the id %s", err, setup.ClusterID))
		return nil
	}
	return fmt.Errorf("%w\nVault cannot verify tokens of the cluster in KUBECONFIG, or the role does not fit. "+
		"Check --kubernetes-host and --kubernetes-ca-file. For a Vault outside the cluster, pass an unexpired token of a service account "+
		"with the ClusterRole system:auth-delegator in --token-reviewer-jwt-file", err)
}

// operatorToken requests a token of the operator's service account. own reports whether the cluster
// in KUBECONFIG is known to be the one of the cluster id.
func operatorToken(ctx context.Context, setup vaultadmin.Setup) (jwt string, own bool, err error) {
	cluster, err := connectCluster()
	if err != nil {
		return "", false, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: setup.OperatorNamespace, Name: setup.OperatorServiceAccount}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{setup.Audience}, ExpirationSeconds: new(int64(trialTokenSeconds)),
	}}
	if err := cluster.SubResource("token").Create(ctx, account, request); err != nil {
		return "", false, fmt.Errorf("request a token of the service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	if request.Status.Token == "" {
		return "", false, errors.New("the response of the cluster has no token")
	}
	id, err := clusterUID(ctx, cluster)
	return request.Status.Token, err == nil && id == setup.ClusterID, nil
}
