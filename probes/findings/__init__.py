"""What the numbers of a results folder say: how sure scores are, which models differ, which layer was chosen.

`predicted_rows` brings the predictions of a question's fits to the same rows, `question_findings` asks
`probes.statistics` of them, `sentences` puts the answers into words.
"""
