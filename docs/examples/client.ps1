# A Windows client, for good: what "modmirror env --shell powershell URL" prints sets one shell, this sets the user.
# .\client.ps1 http://goproxy.corp.example:8080
param([Parameter(Mandatory)] [string] $Url)
$ErrorActionPreference = 'Stop'
$server = Invoke-RestMethod "$Url/settings.json"
$proxies = @($Url) + $server.also
$direct = if ($server.also) { '' } else { $server.inside -join ',' }
go env -w "GOPROXY=$($proxies -join ',')" "GONOPROXY=$direct" 'GOPRIVATE=' "GONOSUMDB=$(($server.inside + $server.private) -join ',')"
if ($server.sumdb -eq 'sum.golang.org') { go env -w 'GOSUMDB=sum.golang.org' }
# gopls reads it; govulncheck wants it typed: govulncheck -db $env:GOVULNDB ./...
if ($server.vulndb) { [Environment]::SetEnvironmentVariable('GOVULNDB', "$Url/vulndb", 'User') }
go env GOPROXY GONOSUMDB
