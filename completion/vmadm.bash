# SPDX-License-Identifier: MPL-2.0
# bash completion of vmadm and vminfo: Tab asks vmadm itself what fits (vmadm __complete).

# Puts into COMPREPLY what the words can become. $@: vmadm's words, the last of them the one that is being typed.
# What is put in is one word that means itself: VMs' owners choose their names, and none of them is for this shell to run.
_vmadm_candidates() {
	local typed=${*: -1} found line prefix
	COMPREPLY=()
	while IFS= read -r line; do
		found=${line%%$'\t'*}
		if [[ $found == :files ]]; then
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$typed")
			return
		fi
		[[ $found == *= ]] && compopt -o nospace 2>/dev/null
		[[ $found == *[^A-Za-z0-9_.,:=@%/+-]* ]] && printf -v found %q "$found"
		COMPREPLY+=("$found")
	done < <(vmadm __complete "${@//\\/}" 2>/dev/null) # what we have quoted is found again
	# bash takes "=" and "," for ends of words: what stands before the last of them is there already.
	prefix=${typed%"${typed##*[=]}"}
	[[ $COMP_WORDBREAKS == *=* && -n $prefix ]] && COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}

# The words up to the cursor, put together again where bash has split them at "=".
_vmadm_words() {
	local word
	words=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
		if ((${#words[@]} > 0)) && [[ $word == '=' || ${words[-1]} == *= ]]; then
			words[-1]+=$word
		else
			words+=("$word")
		fi
	done
}

_vmadm() {
	local words
	_vmadm_words
	_vmadm_candidates "${words[@]}"
}

_vminfo() {
	local commands="ping status vms vm events top transaction help"
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "${COMP_WORDS[1]}")
	elif ((COMP_CWORD == 2)) && [[ ${COMP_WORDS[1]} == vm || ${COMP_WORDS[1]} == transaction ]]; then
		_vmadm_candidates get "${COMP_WORDS[2]}"
	else
		mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
	fi
}

complete -F _vmadm vmadm
complete -F _vminfo vminfo
