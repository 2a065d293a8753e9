//go:build sops

// Key management services, for a worker that may use the network. Credentials come from the Secret, as Flux reads them.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/kms"
	"sigs.k8s.io/yaml"
)

// cloudTimeout bounds one question to a service; a build has a minute for all of them.
const cloudTimeout = 20 * time.Second

type clouds struct {
	vault  string
	logins *vaultLogins
	aws    aws.CredentialsProvider
	azure  azcore.TokenCredential
	gcp    string
}

func newClouds(keys *decryption) (clouds, error) {
	c := clouds{vault: strings.TrimSpace(keys.Vault), logins: newVaultLogins(keys.VaultLogins), gcp: strings.TrimSpace(keys.GCP)}
	if keys.AWS != "" {
		var one struct {
			AccessKeyID     string `json:"aws_access_key_id"`
			SecretAccessKey string `json:"aws_secret_access_key"`
			SessionToken    string `json:"aws_session_token"`
		}
		if yaml.Unmarshal([]byte(keys.AWS), &one) != nil || one.AccessKeyID == "" || one.SecretAccessKey == "" {
			return c, errors.New("'sops.aws-kms' of the decryption Secret needs aws_access_key_id and aws_secret_access_key")
		}
		c.aws = credentials.NewStaticCredentialsProvider(one.AccessKeyID, one.SecretAccessKey, one.SessionToken)
	}
	if keys.Azure != "" {
		var one struct {
			TenantID     string `json:"tenantId"`
			ClientID     string `json:"clientId"`
			ClientSecret string `json:"clientSecret"`
		}
		if yaml.Unmarshal([]byte(keys.Azure), &one) != nil || one.TenantID == "" || one.ClientID == "" || one.ClientSecret == "" {
			return c, errors.New("'sops.azure-kv' of the decryption Secret needs tenantId, clientId and clientSecret; this version " +
				"of Weir takes no other form")
		}
		token, err := azidentity.NewClientSecretCredential(one.TenantID, one.ClientID, one.ClientSecret, nil)
		if err != nil {
			return c, errors.New("'sops.azure-kv' of the decryption Secret cannot be used: is tenantId right?")
		}
		c.azure = token
	}
	return c, nil
}

func (c clouds) decrypt(ctx context.Context, key *keyservice.Key, text []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cloudTimeout)
	defer cancel()
	missing := func(service, name string) error {
		return fmt.Errorf("there are no credentials for %s, no key '%s'; credentials by service account are not supported by "+
			"this version of Weir", service, name)
	}
	switch one := key.KeyType.(type) {
	case *keyservice.Key_VaultKey:
		token, allowed := c.vault, true
		if token == "" {
			var err error
			if token, allowed, err = c.logins.token(ctx, one.VaultKey.VaultAddress); err != nil {
				return nil, err
			}
		}
		if !allowed {
			return nil, missing("Vault", "sops.vault-token")
		}
		master := hcvault.MasterKey{
			VaultAddress: one.VaultKey.VaultAddress, EnginePath: one.VaultKey.EnginePath, KeyName: one.VaultKey.KeyName,
			EncryptedKey: string(text),
		}
		hcvault.Token(token).ApplyToMasterKey(&master)
		return answered("Vault", func() ([]byte, error) { return master.DecryptContext(ctx) })
	case *keyservice.Key_KmsKey:
		if c.aws == nil {
			return nil, missing("AWS KMS", "sops.aws-kms")
		}
		context := map[string]*string{}
		for name, value := range one.KmsKey.Context {
			context[name] = &value
		}
		master := kms.MasterKey{
			Arn: one.KmsKey.Arn, Role: one.KmsKey.Role, EncryptionContext: context, EncryptedKey: string(text),
		}
		kms.NewCredentialsProvider(c.aws).ApplyToMasterKey(&master)
		return answered("AWS KMS", func() ([]byte, error) { return master.DecryptContext(ctx) })
	case *keyservice.Key_AzureKeyvaultKey:
		if c.azure == nil {
			return nil, missing("Azure Key Vault", "sops.azure-kv")
		}
		master := azkv.MasterKey{
			VaultURL: one.AzureKeyvaultKey.VaultUrl, Name: one.AzureKeyvaultKey.Name, Version: one.AzureKeyvaultKey.Version,
			EncryptedKey: string(text),
		}
		azkv.NewTokenCredential(c.azure).ApplyToMasterKey(&master)
		return answered("Azure Key Vault", func() ([]byte, error) { return master.DecryptContext(ctx) })
	case *keyservice.Key_GcpKmsKey:
		if c.gcp == "" {
			return nil, missing("GCP KMS", "sops.gcp-kms")
		}
		master := gcpkms.MasterKey{ResourceID: one.GcpKmsKey.ResourceId, EncryptedKey: string(text)}
		gcpkms.CredentialJSON(c.gcp).ApplyToMasterKey(&master)
		return answered("GCP KMS", func() ([]byte, error) { return master.DecryptContext(ctx) })
	default:
		return nil, errors.New("keys of its kind are not supported by this version of Weir")
	}
}

// answered keeps of a service's error its first line: what follows quotes requests.
func answered(service string, ask func() ([]byte, error)) ([]byte, error) {
	plain, err := ask()
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%s refused: %s", service, shorten(first))
	}
	return plain, nil
}
