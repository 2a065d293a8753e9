//go:build sops

// Logins at Vault or OpenBao with the token of a service account.
//
// Guarantees: only an instance that Weir named gets a token, and only the one that was made for it; each is logged in at once
// for a build; no message holds a token.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxLoginBytes bounds an answer to a login: a token, its policies and its metadata take some hundred bytes.
const maxLoginBytes = 1 << 20

type vaultLogins struct {
	allowed []vaultLogin
	// tokens by address.
	tokens map[string]string
}

func newVaultLogins(allowed []vaultLogin) *vaultLogins {
	return &vaultLogins{allowed: allowed, tokens: map[string]string{}}
}

// token logs in at an instance; it says whether that is allowed.
func (l *vaultLogins) token(ctx context.Context, address string) (string, bool, error) {
	address = strings.TrimRight(address, "/")
	if token, known := l.tokens[address]; known {
		return token, true, nil
	}
	for _, login := range l.allowed {
		if strings.TrimRight(login.Address, "/") != address {
			continue
		}
		token, err := login.ask(ctx, address)
		if err != nil {
			return "", true, fmt.Errorf("Vault refused the login of role '%s' at %s: %w", login.Role, address, err)
		}
		l.tokens[address] = token
		return token, true, nil
	}
	return "", false, nil
}

func (login vaultLogin) ask(ctx context.Context, address string) (string, error) {
	body, err := json.Marshal(map[string]string{"role": login.Role, "jwt": login.Token})
	if err != nil {
		return "", errors.New("the login cannot be written")
	}
	url := address + "/v1/" + strings.Trim(login.Path, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", errors.New("its address is no URL")
	}
	request.Header.Set("Content-Type", "application/json")
	// Whoever answers with a redirect does not get the token sent on.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
		Errors []string `json:"errors"`
	}
	problem := json.NewDecoder(io.LimitReader(response.Body, maxLoginBytes)).Decode(&answer)
	switch {
	case response.StatusCode != http.StatusOK && len(answer.Errors) > 0:
		return "", errors.New(shorten(answer.Errors[0]))
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("it answers %s", response.Status)
	case problem != nil || answer.Auth.ClientToken == "":
		return "", errors.New("its answer holds no token")
	}
	return answer.Auth.ClientToken, nil
}
