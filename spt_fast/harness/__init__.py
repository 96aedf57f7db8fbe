"""The other way round: spt-fast as a model of lm-evaluation-harness, so that people stay there and ask behind soft prompts.

spt-fast lm-eval run --model spt_fast --model_args pretrained=org/model,soft_prompts=runs/x --tasks arc_easy
"""
